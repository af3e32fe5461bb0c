//! The groups of a keyed stream: which slot a fingerprint has.
//!
//! 12 bytes a group in the index, 18 with its free slots on average, and 4 beside it; a window adds its own state under
//! the same slot. A slot is given to another group once its own is forgotten.

use crate::key::Fingerprint;
use crate::window::{Entry, Slab, Table};

/// What tells a group from all others: 64 bits of its fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    /// Says where in the index. Never 0.
    place: u32,
    check: u32,
}

/// The hash that has its place in the index.
#[inline]
fn hash_of(place: u32) -> u64 {
    u64::from(place) << 32
}

impl From<Fingerprint> for Identity {
    #[inline]
    fn from(print: Fingerprint) -> Self {
        Self { place: ((print.high >> 32) as u32).max(1), check: print.high as u32 }
    }
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    group: Identity,
    slot: u32,
}

impl Entry for Slot {
    const FREE: Self = Self { group: Identity { place: 0, check: 0 }, slot: 0 };

    #[inline]
    fn is_free(&self) -> bool {
        self.group.place == 0
    }

    #[inline]
    fn hash(&self) -> u64 {
        hash_of(self.group.place)
    }
}

#[derive(Debug, Default)]
pub(super) struct Groups {
    index: Table<Slot>,
    /// By slot: the place of its group in the index, 0 where it waits for another.
    places: Slab<u32>,
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
        self.index.prefetch(hash_of(Identity::from(print).place), 2);
    }

    #[inline]
    pub(super) fn find(&self, print: Fingerprint) -> Option<u32> {
        let group = Identity::from(print);
        self.index.find(hash_of(group.place), |known| known.group == group).map(|known| known.slot)
    }

    /// The slot of a group, and whether it was given just now.
    pub(super) fn find_or_add(&mut self, print: Fingerprint) -> (u32, bool) {
        let group = Identity::from(print);
        let slot = self.free.last().copied().unwrap_or(self.places.len() as u32);
        if let Some(known) = self.index.find_or_add(Slot { group, slot }, |known| known.group == group) {
            return (known.slot, false);
        }
        if self.free.pop().is_none() {
            self.places.push(group.place);
        } else if let Some(place) = self.places.get_mut(slot) {
            *place = group.place;
        }
        (slot, true)
    }

    /// Looks at `share` (0 to 1) of the groups and forgets those for which `over` holds.
    pub(super) fn sweep(&mut self, share: f64, mut over: impl FnMut(u32) -> bool) {
        let most = self.places.len() as f64;
        self.owed = (self.owed + most * share).min(most);
        while self.owed >= 1.0 {
            self.owed -= 1.0;
            self.sweep_at = (self.sweep_at + 1) % self.places.len() as u32;
            let slot = self.sweep_at;
            let Some(place) = self.places.get_mut(slot).filter(|place| **place != 0) else { continue };
            if over(slot) {
                let hash = hash_of(std::mem::take(place));
                self.index.remove(hash, |known| known.slot == slot);
                self.free.push(slot);
            }
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.places.heap_bytes() + self.index.heap_bytes() + self.free.capacity() * size_of::<u32>()
    }
}
