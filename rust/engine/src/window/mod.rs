//! Sliding windows: exact counts, distinct counts and aggregates over event time.
//!
//! Time is divided into panes of the window's resolution; a window ends with each pane. Per group and window there is
//! a [`State`] with a [`panes::PaneLog`]: events and last-seen values per pane, and the count of the newest pane's
//! window. Shared by all groups are:
//! - [`Counts`]: the window's parameters, and a [`pairs::PairTable`] with the last pane of each value in each group;
//! - [`LatenessBuffer`]: the events that the watermark has not passed, from which past panes are recomputed, so that
//!   arrival order within the allowed lateness does not matter;
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
