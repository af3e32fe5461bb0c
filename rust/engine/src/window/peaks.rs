//! Largest recent counts, for the gauge that shows how close a rule is to firing.

use super::panes::PaneIndex;
use crate::foundation::codec::{Damaged, StateReader, StateWriter};

/// Largest count of any group in each eighth of the last timespan, and in the eighth that is under way.
#[derive(Debug, Default)]
pub(crate) struct Peaks {
    /// Slice number and its largest count, as a ring buffer.
    slices: [(PaneIndex, u64); 9],
    /// Current slice and its largest count, cached because most counts are smaller.
    slice: PaneIndex,
    peak: u64,
}

impl Peaks {
    /// Makes a slice the current one; slices number the eighths of the timespan.
    pub(crate) fn move_to_slice(&mut self, slice: PaneIndex) {
        (self.slice, self.peak) = (slice, self.note(slice, 0));
    }

    /// Records a group's count in the current slice.
    #[inline]
    pub(crate) fn record(&mut self, count: u64) {
        if count > self.peak {
            self.peak = self.note(self.slice, count);
        }
    }

    /// Records a group's count in any slice.
    pub(crate) fn record_in(&mut self, slice: PaneIndex, count: u64) {
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

    pub(crate) fn save(&self, to: &mut StateWriter) {
        for (slice, count) in self.slices {
            to.u32(slice);
            to.u64(count);
        }
    }

    pub(crate) fn load(from: &mut StateReader<'_>) -> Result<Self, Damaged> {
        let mut peaks = Self::default();
        for known in &mut peaks.slices {
            *known = (from.u32()?, from.u64()?);
        }
        Ok(peaks)
    }

    /// Largest count within one timespan before slice `newest`.
    pub(crate) fn largest(&self, newest: PaneIndex) -> u64 {
        self.slices.iter().filter(|(at, _)| at + 8 >= newest).map(|&(_, count)| count).max().unwrap_or(0)
    }
}

/// Slice that contains a pane, for a timespan of `span` panes.
#[inline]
pub(crate) fn eighth(pane: PaneIndex, span: u32) -> PaneIndex {
    pane / span.div_ceil(8)
}
