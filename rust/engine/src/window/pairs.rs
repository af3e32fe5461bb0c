//! The last pane of each value in each group: what makes a sliding distinct count O(1) an event.
//!
//! 16 bytes a pair in a [`Table`], 24 with its free slots on average. A value moves from its old pane's total to its
//! new one's, so a window's distinct count is the sum of its panes' totals.

use super::PaneIndex;
use super::table::{Entry, Table};

#[derive(Debug, Clone, Copy)]
struct Pair {
    value: u64,
    group: u32,
    /// Pane 0 is 1970, which no event has.
    last: PaneIndex,
}

impl Entry for Pair {
    const FREE: Self = Self { value: 0, group: 0, last: 0 };

    #[inline]
    fn is_free(&self) -> bool {
        self.last == 0
    }

    #[inline]
    fn hash(&self) -> u64 {
        hash(self.value, self.group)
    }
}

/// The value is a keyed fingerprint already; the multiplication spreads groups that share it.
#[inline]
fn hash(value: u64, group: u32) -> u64 {
    value ^ u64::from(group).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[derive(Debug, Default)]
pub(crate) struct PairTable {
    pairs: Table<Pair>,
}

impl PairTable {
    pub(crate) fn heap_bytes(&self) -> usize {
        self.pairs.heap_bytes()
    }

    /// Asks for what [`Self::see`] will read first.
    #[inline]
    pub(crate) fn prefetch(&self, value: u64, group: u32) {
        self.pairs.prefetch(hash(value, group), 3);
    }

    /// Records that `value` was seen in `group` at `pane`. Returns the pane it was last seen in before, or
    /// `None` if it is new; a pane below that leaves the newer one in place.
    #[inline]
    pub(crate) fn see(&mut self, value: u64, group: u32, pane: PaneIndex) -> Option<PaneIndex> {
        let same = |pair: &Pair| pair.value == value && pair.group == group;
        let pair = self.pairs.find_or_add(Pair { value, group, last: pane }, same)?;
        let before = pair.last;
        pair.last = before.max(pane);
        Some(before)
    }

    /// The pane a value was last seen in, if it is kept.
    pub(crate) fn last(&self, value: u64, group: u32) -> Option<PaneIndex> {
        let same = |pair: &Pair| pair.value == value && pair.group == group;
        self.pairs.find(hash(value, group), same).map(|pair| pair.last)
    }

    /// Looks at `share` (0 to 1) of the pairs and forgets those last seen before `bound`.
    pub(crate) fn sweep(&mut self, share: f64, bound: PaneIndex) {
        self.pairs.sweep(share, |pair| pair.last >= bound);
    }
}
