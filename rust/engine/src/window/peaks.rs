//! The largest counts of late, for a gauge that shows how near to firing a rule is.

use super::PaneIndex;

/// The largest count of each eighth of the last timespan.
#[derive(Debug, Default)]
pub(crate) struct Peaks {
    slices: [(PaneIndex, u32); 9],
}

impl Peaks {
    /// Notes a group's count; `slice` numbers eighths of the timespan.
    #[inline]
    pub(crate) fn see(&mut self, slice: PaneIndex, count: u32) {
        let place = &mut self.slices[slice as usize % 9];
        if place.0 != slice {
            *place = (slice, count);
        } else if count > place.1 {
            place.1 = count;
        }
    }

    /// The largest count within a timespan before slice `newest`.
    pub(crate) fn largest(&self, newest: PaneIndex) -> u32 {
        self.slices.iter().filter(|(at, _)| at + 8 >= newest).map(|&(_, count)| count).max().unwrap_or(0)
    }
}
