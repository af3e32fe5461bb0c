//! The groups of a keyed stream: which slot a fingerprint has.
//!
//! 16 bytes a group in the index, 24 with its free slots on average, and 8 beside it; a window adds its own state under
//! the same slot. A slot is given to another group once its own is forgotten.

use crate::key::Fingerprint;
use crate::window::{Entry, Slab, Table};

/// What tells a group from all others: 96 bits of its fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    /// Never 0.
    key: u64,
    check: u32,
}

impl From<Fingerprint> for Identity {
    #[inline]
    fn from(print: Fingerprint) -> Self {
        Self { key: print.high.max(1), check: print.low as u32 }
    }
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    group: Identity,
    slot: u32,
}

impl Entry for Slot {
    const FREE: Self = Self { group: Identity { key: 0, check: 0 }, slot: 0 };

    #[inline]
    fn is_free(&self) -> bool {
        self.group.key == 0
    }

    #[inline]
    fn hash(&self) -> u64 {
        self.group.key
    }
}

#[derive(Debug, Default)]
pub(super) struct Groups {
    index: Table<Slot>,
    /// By slot: the key of its group, 0 where it waits for another.
    keys: Slab<u64>,
    free: Vec<u32>,
    /// The next slot to sweep.
    sweep_at: u32,
    /// Slots the sweep still owes, in fractions of one.
    owed: f64,
}

impl Groups {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Asks for what [`Self::find`] will read.
    #[inline]
    pub(super) fn prefetch(&self, print: Fingerprint) {
        self.index.prefetch(Identity::from(print).key, 2);
    }

    #[inline]
    pub(super) fn find(&self, print: Fingerprint) -> Option<u32> {
        let group = Identity::from(print);
        self.index.find(group.key, |known| known.group == group).map(|known| known.slot)
    }

    /// The slot of a group, and whether it was given just now.
    pub(super) fn find_or_add(&mut self, print: Fingerprint) -> (u32, bool) {
        let group = Identity::from(print);
        let slot = self.free.last().copied().unwrap_or(self.keys.len() as u32);
        if let Some(known) = self.index.find_or_add(Slot { group, slot }, |known| known.group == group) {
            return (known.slot, false);
        }
        if self.free.pop().is_none() {
            self.keys.push(group.key);
        } else if let Some(key) = self.keys.get_mut(slot) {
            *key = group.key;
        }
        (slot, true)
    }

    /// Looks at `share` (0 to 1) of the groups and forgets those for which `over` holds.
    pub(super) fn sweep(&mut self, share: f64, mut over: impl FnMut(u32) -> bool) {
        let most = self.keys.len() as f64;
        self.owed = (self.owed + most * share).min(most);
        while self.owed >= 1.0 {
            self.owed -= 1.0;
            self.sweep_at = (self.sweep_at + 1) % self.keys.len() as u32;
            let slot = self.sweep_at;
            let Some(key) = self.keys.get_mut(slot).filter(|key| **key != 0) else { continue };
            if over(slot) {
                let key = std::mem::take(key);
                self.index.remove(key, |known| known.slot == slot);
                self.free.push(slot);
            }
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.keys.heap_bytes() + self.index.heap_bytes() + self.free.capacity() * size_of::<u32>()
    }
}
