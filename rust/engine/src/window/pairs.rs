//! The last pane of each value in each group: what makes a sliding distinct count O(1) an event.
//!
//! Open addressing with linear probing, 16 bytes a slot: the value's 64-bit fingerprint, the group's slot,
//! the pane. A value moves from its old pane's total to its new one's, so a window's distinct count is the
//! sum of its panes' totals. Values that left the window are swept out bit by bit with backward-shift
//! deletion (Knuth, TAOCP 3, 6.4 algorithm R), so there are no tombstones and the table shrinks again.

use super::PaneIndex;

#[derive(Debug, Clone, Copy)]
struct Entry {
    value: u64,
    group: u32,
    /// 0 marks a free slot; pane 0 is 1970 and never accepted.
    last: PaneIndex,
}

const FREE: Entry = Entry { value: 0, group: 0, last: 0 };
const SMALLEST: usize = 64;

#[derive(Debug)]
pub(crate) struct PairTable {
    entries: Vec<Entry>,
    live: usize,
    sweep_at: usize,
}

impl PairTable {
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new(), live: 0, sweep_at: 0 }
    }

    /// Pairs kept.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }

    #[inline]
    fn home(&self, value: u64, group: u32) -> usize {
        // The value is a keyed fingerprint already; the multiplication spreads groups that share it.
        let mixed = value ^ u64::from(group).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((u128::from(mixed) * self.entries.len() as u128) >> 64) as usize
    }

    /// Records that `value` was seen in `group` at `pane`. Returns the pane it was last seen in before, or
    /// `None` if it is new; a pane below that leaves the newer one in place.
    #[inline]
    pub(crate) fn see(&mut self, value: u64, group: u32, pane: PaneIndex) -> Option<PaneIndex> {
        if self.live * 5 >= self.entries.len() * 4 {
            let slots = (self.live * 8 / 5).max(SMALLEST);
            self.rebuild(slots);
        }
        let mut at = self.home(value, group);
        loop {
            let entry = &mut self.entries[at];
            if entry.last == 0 {
                *entry = Entry { value, group, last: pane };
                self.live += 1;
                return None;
            }
            if entry.value == value && entry.group == group {
                let before = entry.last;
                entry.last = before.max(pane);
                return Some(before);
            }
            at += 1;
            if at == self.entries.len() {
                at = 0;
            }
        }
    }

    /// Looks at `share` (0 to 1) of the table and removes entries for which `dead(group, last)` holds.
    pub(crate) fn sweep(&mut self, share: f64, dead: impl Fn(u32, PaneIndex) -> bool) {
        let slots = self.entries.len();
        let mut budget = (slots as f64 * share).ceil() as usize;
        while budget > 0 && self.live > 0 {
            let at = self.sweep_at % slots;
            let entry = self.entries[at];
            if entry.last != 0 && dead(entry.group, entry.last) {
                // What shifts into this slot has not been looked at yet: stay.
                self.remove(at);
            } else {
                self.sweep_at = (at + 1) % slots;
            }
            budget -= 1;
        }
        if slots > SMALLEST && self.live * 4 < slots {
            self.rebuild((self.live * 2).max(SMALLEST));
        }
    }

    fn remove(&mut self, at: usize) {
        let slots = self.entries.len();
        self.live -= 1;
        let mut gap = at;
        let mut next = at;
        loop {
            next = (next + 1) % slots;
            let entry = self.entries[next];
            if entry.last == 0 {
                break;
            }
            let home = self.home(entry.value, entry.group);
            // `entry` may move into the gap unless its home lies cyclically within (gap, next].
            let stays = if gap < next { gap < home && home <= next } else { gap < home || home <= next };
            if !stays {
                self.entries[gap] = entry;
                gap = next;
            }
        }
        self.entries[gap] = FREE;
    }

    fn rebuild(&mut self, slots: usize) {
        let old = std::mem::replace(&mut self.entries, vec![FREE; slots]);
        self.sweep_at = 0;
        for entry in old.into_iter().filter(|entry| entry.last != 0) {
            let mut at = self.home(entry.value, entry.group);
            while self.entries[at].last != 0 {
                at = (at + 1) % slots;
            }
            self.entries[at] = entry;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn behaves_like_a_map(steps in prop::collection::vec((0u64..40, 0u32..3, 1u32..50), 1..400),
                              bound in 0u32..50) {
            // Few distinct high bits make long probe runs that wrap around.
            let spread = |v: u64| v.wrapping_mul(0x0F00_0000_0000_0001);
            let mut table = PairTable::new();
            let mut model = HashMap::new();
            for (i, &(value, group, pane)) in steps.iter().enumerate() {
                let before = model.get(&(value, group)).copied();
                prop_assert_eq!(table.see(spread(value), group, pane), before);
                model.insert((value, group), before.map_or(pane, |b: u32| b.max(pane)));
                if i % 50 == 49 {
                    for _ in 0..4 { table.sweep(1.0, |_, last| last < bound); }
                    model.retain(|_, last| *last >= bound);
                    prop_assert_eq!(table.len(), model.len());
                }
            }
            for (&(value, group), &last) in &model {
                prop_assert_eq!(table.see(spread(value), group, last), Some(last));
            }
        }
    }
}
