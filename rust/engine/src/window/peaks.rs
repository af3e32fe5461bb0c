//! The largest counts of late, for a gauge that shows how near to firing a rule is.

use super::PaneIndex;
use crate::codec::{Damaged, Reader, Writer};

/// The largest count of each eighth of the last timespan.
#[derive(Debug, Default)]
pub(crate) struct Peaks {
    slices: [(PaneIndex, u64); 9],
    /// The slice at hand and its largest count: most counts look at nothing else.
    slice: PaneIndex,
    peak: u64,
}

impl Peaks {
    /// Goes on to a slice, or back; `slice` numbers eighths of the timespan.
    pub(crate) fn turn_to(&mut self, slice: PaneIndex) {
        (self.slice, self.peak) = (slice, self.note(slice, 0));
    }

    /// Notes a group's count in the slice at hand.
    #[inline]
    pub(crate) fn see(&mut self, count: u64) {
        if count > self.peak {
            self.peak = self.note(self.slice, count);
        }
    }

    /// Notes a group's count in any slice.
    pub(crate) fn see_in(&mut self, slice: PaneIndex, count: u64) {
        let peak = self.note(slice, count);
        if slice == self.slice {
            self.peak = peak;
        }
    }

    /// Returns the largest count of the slice.
    #[cold]
    fn note(&mut self, slice: PaneIndex, count: u64) -> u64 {
        let (known, peak) = &mut self.slices[slice as usize % 9];
        if *known != slice {
            (*known, *peak) = (slice, 0);
        }
        *peak = count.max(*peak);
        *peak
    }

    pub(crate) fn save(&self, to: &mut Writer) {
        for (slice, count) in self.slices {
            to.u32(slice);
            to.u64(count);
        }
    }

    pub(crate) fn load(from: &mut Reader<'_>) -> Result<Self, Damaged> {
        let mut peaks = Self::default();
        for known in &mut peaks.slices {
            *known = (from.u32()?, from.u64()?);
        }
        Ok(peaks)
    }

    /// The largest count within a timespan before slice `newest`.
    pub(crate) fn largest(&self, newest: PaneIndex) -> u64 {
        self.slices.iter().filter(|(at, _)| at + 8 >= newest).map(|&(_, count)| count).max().unwrap_or(0)
    }
}

/// The number of the eighth of a timespan of so many panes that a pane is in.
#[inline]
pub(crate) fn eighth(pane: PaneIndex, span: u32) -> PaneIndex {
    pane / span.div_ceil(8)
}
