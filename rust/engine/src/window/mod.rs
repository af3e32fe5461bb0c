//! Sliding windows: exact counts, distinct counts and aggregates over event time.
//!
//! Time is divided into panes of the window's resolution, and one window ends with each pane: *the count of a pane* is
//! the count of the window that ends with it. Each group has a [`State`] per window, with a [`panes::PaneLog`]: its
//! events by pane, its distinct values by the pane in which they were last seen, and the count of its newest pane.
//!
//! An event is *out of order* if its group already has a later pane, and *late* if its time is before the watermark. No
//! event waits for the watermark: each is counted on arrival, an out-of-order event in its own pane.
//!
//! The groups share these tables:
//! - [`Counts`]: the window's parameters, and a [`pairs::PairTable`] with the last pane of each value in each group;
//! - [`LatenessBuffer`]: copies of the events that the watermark has not passed, to recompute the counts of past panes
//!   when an event is out of order, so that arrival order within the allowed lateness does not matter;
//! - [`Aggregates`]: amounts and sequences, for rules that evaluate them.
//!
//! [`WindowView`] gives read access to all of it.

mod aggregates;
mod chunked_vec;
mod counts;
mod lateness_buffer;
mod pairs;
mod panes;
mod peaks;
mod segmented_map;
mod step_function;
mod view;

pub(crate) use aggregates::Aggregates;
pub(crate) use chunked_vec::ChunkedVec;
pub(crate) use counts::{CountUpdate, Counts, NewEvent, State};
pub(crate) use lateness_buffer::LatenessBuffer;
pub(crate) use panes::PaneIndex;
pub(crate) use segmented_map::{SegmentedMap, Swept};
pub(crate) use view::WindowView;
