//! Slot assignment for the groups of a keyed stream: fingerprint → slot number.
//!
//! Cost: 12 bytes per group, 19 on average with the free room of the index. Every window stores its own state under
//! the same slot number. When a group expires or is evicted, its slot is reused.

use crate::foundation::codec::{Damaged, StateReader, StateWriter};
use crate::foundation::fingerprint::Fingerprint;
use crate::window::{SegmentedMap, Swept};

#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Fingerprint of a group (64 bits) → its slot.
    index: SegmentedMap,
    /// Number of slots, free ones included.
    slots: u32,
    /// Slots to reuse for new groups.
    free: Vec<u32>,
}

impl Groups {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Prefetches the memory that [`Self::find`] reads.
    #[inline]
    pub(super) fn prefetch(&self, fingerprint: Fingerprint) {
        self.index.prefetch(fingerprint);
    }

    #[inline]
    pub(super) fn find(&self, fingerprint: Fingerprint) -> Option<u32> {
        self.index.find(fingerprint)
    }

    /// Returns the slot of a group, and whether the group is new.
    pub(super) fn find_or_add(&mut self, fingerprint: Fingerprint) -> (u32, bool) {
        let slot = self.free.last().copied().unwrap_or(self.slots);
        if let Some(known) = self.index.find_or_add(fingerprint, slot) {
            return (*known, false);
        }
        if self.free.pop().is_none() {
            self.slots += 1;
        }
        (slot, true)
    }

    /// Visits `share` (0 to 1) of the groups and removes those for which `over` returns true. `over` is called twice
    /// for each group: first with [`Swept::Soon`], so that it can prefetch, then with [`Swept::Now`].
    pub(super) fn sweep(&mut self, share: f64, mut over: impl FnMut(u32, Swept) -> bool) {
        let free = &mut self.free;
        self.index.sweep(share, |slot, when| {
            let over = over(slot, when);
            if over && when == Swept::Now {
                free.push(slot);
            }
            !over
        });
    }

    /// Removes all groups for which `over` returns true and frees their index memory. Returns how many were removed.
    pub(super) fn remove(&mut self, over: impl Fn(u32) -> bool) -> usize {
        let free = &mut self.free;
        let before = free.len();
        self.index.retain(|slot| {
            let over = over(slot);
            if over {
                free.push(slot);
            }
            !over
        });
        free.len() - before
    }

    /// Number of free slots.
    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// Number of slots, free ones included.
    pub(super) fn slots(&self) -> u32 {
        self.slots
    }

    pub(super) fn save(&self, to: &mut StateWriter) {
        self.index.save(to);
        to.u32(self.slots);
        to.list(self.free.iter(), |to, &slot| to.u32(slot));
    }

    pub(super) fn load(from: &mut StateReader<'_>) -> Result<Self, Damaged> {
        let (index, slots) = (SegmentedMap::load(from)?, from.u32()?);
        let free: Vec<u32> = from.list(size_of::<u32>(), StateReader::u32)?;
        if index.len() + free.len() != slots as usize || free.iter().any(|&slot| slot >= slots) {
            return Err(Damaged("groups and slots do not match"));
        }
        Ok(Self { index, slots, free })
    }

    /// Memory of the index, in bytes.
    pub(super) fn index_bytes(&self) -> usize {
        self.index.heap_bytes()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.index_bytes() + self.free.capacity() * size_of::<u32>()
    }
}
