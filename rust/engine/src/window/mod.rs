//! What a sliding window remembers.
//!
//! Time is cut into panes of a window's resolution. [`Counts`] keeps for each group a [`panes::PaneLog`] (events
//! and last-seen values a pane), for all groups together a [`pairs::PairTable`] (the last pane of each value in
//! each group) and [`recent::Recent`], the events younger than the watermark, which is what makes order within
//! the allowed lateness not matter.

mod counts;
mod pairs;
mod panes;
mod peaks;
mod recent;
mod segments;
mod slab;
mod table;

pub(crate) use counts::{Added, Counts};
pub(crate) use table::Table;

/// A pane's number: event time divided by the resolution. At 1 s a `u32` lasts until 2106.
pub(crate) type PaneIndex = u32;
