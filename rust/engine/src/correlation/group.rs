//! The groups of one rule: a slab of state, an index by fingerprint, and the sweep that forgets.

use crate::key::Fingerprint;
use crate::time::Micros;
use crate::window::{NO_ARRIVAL, PaneLog};
use hashbrown::HashTable;

/// Everything remembered of one group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) print: Fingerprint,
    pub(super) log: PaneLog,
    /// The count in the head's window.
    pub(super) total: u32,
    /// Matching events so far; wraps, only differences are used.
    pub(super) events: u32,
    /// Largest event time.
    pub(super) newest: Micros,
    /// End of the chain of recent arrivals.
    pub(super) last_arrival: u64,
}

/// All groups of one rule. A slot is a group's place; it may be given to another once the group is forgotten.
#[derive(Debug, Default)]
pub(super) struct GroupTable {
    slots: Vec<Option<Group>>,
    free: Vec<u32>,
    index: HashTable<u32>,
    sweep_at: usize,
    /// Slots the sweep still owes, in fractions of one.
    owed: f64,
}

fn hash_of(print: Fingerprint) -> u64 {
    (print >> 64) as u64
}

fn slot_hash(slots: &[Option<Group>]) -> impl Fn(&u32) -> u64 {
    |&slot| slots[slot as usize].as_ref().map_or(0, |group| hash_of(group.print))
}

impl GroupTable {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> Option<&Group> {
        self.slots.get(slot as usize)?.as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Group> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// The slot of a group, if it is known.
    #[inline]
    pub(super) fn find(&self, print: Fingerprint) -> Option<u32> {
        let same = |&slot: &u32| self.get(slot).is_some_and(|group| group.print == print);
        self.index.find(hash_of(print), same).copied()
    }

    /// Makes room for a group that is not known yet.
    pub(super) fn add(&mut self, print: Fingerprint) -> u32 {
        let group = Group {
            print,
            log: PaneLog::default(),
            total: 0,
            events: 0,
            newest: Micros::MIN,
            last_arrival: NO_ARRIVAL,
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[slot as usize] = Some(group);
        self.index.insert_unique(hash_of(print), slot, slot_hash(&self.slots));
        slot
    }

    /// Looks at `share` (0 to 1) of the groups and forgets those for which `dead` holds; `forgotten` hears of
    /// each.
    pub(super) fn sweep(
        &mut self,
        share: f64,
        dead: impl Fn(u32, &Group) -> bool,
        mut forgotten: impl FnMut(u32),
    ) {
        self.owed = (self.owed + self.slots.len() as f64 * share).min(self.slots.len() as f64);
        while self.owed >= 1.0 {
            self.owed -= 1.0;
            self.sweep_at = (self.sweep_at + 1) % self.slots.len();
            let slot = self.sweep_at as u32;
            let Some(hash) = self.get(slot).filter(|g| dead(slot, g)).map(|g| hash_of(g.print)) else {
                continue;
            };
            if let Ok(entry) = self.index.find_entry(hash, |&other| other == slot) {
                entry.remove();
            }
            self.slots[self.sweep_at] = None;
            self.free.push(slot);
            forgotten(slot);
        }
        self.shrink();
    }

    /// Gives memory back when most groups are gone.
    fn shrink(&mut self) {
        if self.slots.len() < 1024 || self.index.len() * 4 > self.slots.len() {
            return;
        }
        while self.slots.last().is_some_and(Option::is_none) {
            self.slots.pop();
        }
        let end = self.slots.len() as u32;
        self.free.retain(|&slot| slot < end);
        self.slots.shrink_to(self.slots.len() * 2);
        self.free.shrink_to_fit();
        self.index.shrink_to(self.index.len() * 2, slot_hash(&self.slots));
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let logs: usize = self.slots.iter().flatten().map(|group| group.log.heap_bytes()).sum();
        logs + self.slots.capacity() * size_of::<Option<Group>>() + self.index.allocation_size()
    }
}
