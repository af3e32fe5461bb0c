//! The groups of a keyed stream: which slot a fingerprint has.
//!
//! 12 bytes a group, 19 with the index's free room on average; a window adds its own state under the same slot. A slot is
//! given to another group once its own is forgotten.

use crate::codec::{Damaged, Reader, Writer};
use crate::key::Fingerprint;
use crate::window::{Swept, Table};

#[derive(Debug, Default)]
pub(super) struct Groups {
    /// 64 bits of a group's fingerprint → its slot.
    index: Table,
    /// How many slots there are.
    slots: u32,
    /// Slots that wait for another group.
    free: Vec<u32>,
}

impl Groups {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Asks for what [`Self::find`] will read.
    #[inline]
    pub(super) fn prefetch(&self, print: Fingerprint) {
        self.index.prefetch(print);
    }

    #[inline]
    pub(super) fn find(&self, print: Fingerprint) -> Option<u32> {
        self.index.find(print)
    }

    /// The slot of a group, and whether it was given just now.
    pub(super) fn find_or_add(&mut self, print: Fingerprint) -> (u32, bool) {
        let slot = self.free.last().copied().unwrap_or(self.slots);
        if let Some(known) = self.index.find_or_add(print, slot) {
            return (*known, false);
        }
        if self.free.pop().is_none() {
            self.slots += 1;
        }
        (slot, true)
    }

    /// Looks at `share` (0 to 1) of the groups and forgets those for which `over` holds; it hears of each a little before.
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

    /// Forgets all groups for which `over` holds and gives back what memory the index has of them. Returns how many.
    pub(super) fn forget(&mut self, over: impl Fn(u32) -> bool) -> usize {
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

    /// How many slots wait for another group.
    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// How many slots there are, taken or not.
    pub(super) fn slots(&self) -> u32 {
        self.slots
    }

    pub(super) fn save(&self, to: &mut Writer) {
        self.index.save(to);
        to.u32(self.slots);
        to.list(self.free.iter(), |to, &slot| to.u32(slot));
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self, Damaged> {
        let (index, slots) = (Table::load(from)?, from.u32()?);
        let free: Vec<u32> = from.list(size_of::<u32>(), Reader::u32)?;
        if index.len() + free.len() != slots as usize || free.iter().any(|&slot| slot >= slots) {
            return Err(Damaged("groups and slots do not match"));
        }
        Ok(Self { index, slots, free })
    }

    /// Bytes of the index.
    pub(super) fn index_bytes(&self) -> usize {
        self.index.heap_bytes()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.index_bytes() + self.free.capacity() * size_of::<u32>()
    }
}
