//! What a sliding window remembers.
//!
//! Time is cut into panes of a window's resolution. A group has a [`State`] for each window: a [`panes::PaneLog`] (events
//! and last-seen values a pane) and the count at its head. [`Counts`] keeps for all groups together a
//! [`pairs::PairTable`] (the last pane of each value in each group). [`Arrivals`] are the events younger than the
//! watermark, which is what makes order within the allowed lateness not matter; [`Series`] are amounts and orders, where a
//! rule asks for them; [`Reading`] reads it all.

mod counts;
mod pairs;
mod panes;
mod peaks;
mod reading;
mod recent;
mod rows;
mod segments;
mod series;
mod table;

pub(crate) use counts::{Added, Arriving, Counts, State};
pub(crate) use reading::Reading;
pub(crate) use recent::Arrivals;
pub(crate) use rows::Rows;
pub(crate) use series::Series;
pub(crate) use table::{Swept, Table};

/// A pane's number: event time divided by the resolution. At 1 s a `u32` lasts until 2106.
pub(crate) type PaneIndex = u32;
