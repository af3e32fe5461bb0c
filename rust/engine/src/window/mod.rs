//! What a sliding window remembers.
//!
//! Time is cut into panes of a rule's resolution. A group keeps a [`PaneLog`] (events and last-seen values a
//! pane), a rule keeps a [`PairTable`] (the last pane of each value in each group) and [`Recent`], the
//! events younger than the watermark, which is what makes order within the allowed lateness not matter.

mod pairs;
mod panes;
mod recent;

pub(crate) use pairs::PairTable;
pub(crate) use panes::{PaneLog, Segments};
pub(crate) use recent::{Arrival, NO_ARRIVAL, Recent};

/// A pane's number: event time divided by the resolution. At 1 s a `u32` lasts until 2106.
pub(crate) type PaneIndex = u32;
