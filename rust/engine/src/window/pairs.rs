//! The last pane of each value in each group: what makes a sliding distinct count O(1) an event.
//!
//! 12 bytes a pair in a [`Table`], 19 with its free room on average. A value moves from its old pane's total to its
//! new one's, so a window's distinct count is the sum of its panes' totals.

use super::PaneIndex;
use super::table::Table;
use crate::codec::{Damaged, Reader, Writer};

/// What a pair is known by. A value is a keyed fingerprint already; the multiplication, which takes no two groups to one
/// number, spreads the groups that share a value. Two pairs that share neither meet as seldom as two fingerprints.
#[inline]
fn key(value: u64, group: u32) -> u64 {
    value ^ u64::from(group).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[derive(Debug, Default)]
pub(crate) struct PairTable {
    last: Table,
}

impl PairTable {
    pub(crate) fn heap_bytes(&self) -> usize {
        self.last.heap_bytes()
    }

    /// Asks for what [`Self::see`] will read.
    #[inline]
    pub(crate) fn prefetch(&self, value: u64, group: u32) {
        self.last.prefetch(key(value, group));
    }

    /// Records that `value` was seen in `group` at `pane`. Returns the pane it was last seen in before, or
    /// `None` if it is new; a pane below that leaves the newer one in place.
    #[inline]
    pub(crate) fn see(&mut self, value: u64, group: u32, pane: PaneIndex) -> Option<PaneIndex> {
        let last = self.last.find_or_add(key(value, group), pane)?;
        let before = *last;
        *last = before.max(pane);
        Some(before)
    }

    /// The pane a value was last seen in, if it is kept.
    pub(crate) fn last(&self, value: u64, group: u32) -> Option<PaneIndex> {
        self.last.find(key(value, group))
    }

    pub(crate) fn len(&self) -> usize {
        self.last.len()
    }

    /// The last panes of all pairs.
    pub(crate) fn last_panes(&self) -> impl Iterator<Item = PaneIndex> {
        self.last.values()
    }

    /// Forgets all pairs last seen before `bound`. Returns how many.
    pub(crate) fn forget_before(&mut self, bound: PaneIndex) -> usize {
        let before = self.last.len();
        self.last.retain(|last| last >= bound);
        before - self.last.len()
    }

    pub(crate) fn save(&self, to: &mut Writer) {
        self.last.save(to);
    }

    pub(crate) fn load(from: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self { last: Table::load(from)? })
    }

    /// Looks at `share` (0 to 1) of the pairs and forgets those last seen before `bound`.
    pub(crate) fn sweep(&mut self, share: f64, bound: PaneIndex) {
        self.last.sweep(share, |last, _| last >= bound);
    }
}
