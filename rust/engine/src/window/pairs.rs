//! Last pane of each value in each group, which makes a sliding distinct count O(1) per event.
//!
//! Each value is counted only in the pane of its last event. When it is seen in a later pane, it moves from the old
//! pane's number of values to the new one's, so the distinct count of the newest pane's window is the sum over its
//! panes.
//!
//! Cost: 12 bytes per (value, group) pair, 19 on average with the free room of the [`SegmentedMap`].

use super::panes::PaneIndex;
use super::segmented_map::SegmentedMap;
use crate::foundation::codec::{Damaged, StateReader, StateWriter};

/// Key of a pair. The value is already a keyed fingerprint; the multiplication is a bijection that spreads the groups
/// sharing a value. Keys of unrelated pairs collide as rarely as two fingerprints do.
#[inline]
fn key(value: u64, group: u32) -> u64 {
    value ^ u64::from(group).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[derive(Debug, Default)]
pub(crate) struct PairTable {
    last: SegmentedMap,
}

impl PairTable {
    pub(crate) fn heap_bytes(&self) -> usize {
        self.last.heap_bytes()
    }

    /// Prefetches the memory that [`Self::record`] reads.
    #[inline]
    pub(crate) fn prefetch(&self, value: u64, group: u32) {
        self.last.prefetch(key(value, group));
    }

    /// Records `value` in `group` at `pane`, unless a later pane is stored. Returns the pane stored before, or `None`
    /// if the value is new.
    #[inline]
    pub(crate) fn record(&mut self, value: u64, group: u32, pane: PaneIndex) -> Option<PaneIndex> {
        let last = self.last.find_or_add(key(value, group), pane)?;
        let before = *last;
        *last = before.max(pane);
        Some(before)
    }

    /// Pane in which a value was last seen, if it is stored.
    pub(crate) fn last(&self, value: u64, group: u32) -> Option<PaneIndex> {
        self.last.find(key(value, group))
    }

    pub(crate) fn len(&self) -> usize {
        self.last.len()
    }

    /// Last panes of all pairs.
    pub(crate) fn last_panes(&self) -> impl Iterator<Item = PaneIndex> {
        self.last.values()
    }

    /// Removes all pairs last seen before `bound`; returns how many.
    pub(crate) fn evict_before(&mut self, bound: PaneIndex) -> usize {
        let before = self.last.len();
        self.last.retain(|last| last >= bound);
        before - self.last.len()
    }

    pub(crate) fn save(&self, to: &mut StateWriter) {
        self.last.save(to);
    }

    pub(crate) fn load(from: &mut StateReader<'_>) -> Result<Self, Damaged> {
        Ok(Self { last: SegmentedMap::load(from)? })
    }

    /// Visits `share` (0 to 1) of the pairs and removes those last seen before `bound`.
    pub(crate) fn sweep(&mut self, share: f64, bound: PaneIndex) {
        self.last.sweep(share, |last, _| last >= bound);
    }
}
