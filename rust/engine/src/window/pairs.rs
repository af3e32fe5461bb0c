//! The last pane of each value in each group: what makes a sliding distinct count O(1) an event.
//!
//! Open addressing with linear probing, 16 bytes a slot: the value's 64-bit fingerprint, the group's slot,
//! the pane. A value moves from its old pane's total to its new one's, so a window's distinct count is the
//! sum of its panes' totals. Values that left the window are swept out bit by bit with backward-shift
//! deletion (Knuth, TAOCP 3, 6.4 algorithm R), so there are no tombstones and the table shrinks again.
//!
//! The sweep goes block by block in an order spread over the whole table. Were it to go from one end to the
//! other, half-way through one half would be emptier than the other, and with linear probing a half that is
//! fuller than the whole is a cliff.

use super::PaneIndex;

#[derive(Debug, Clone, Copy)]
struct Entry {
    value: u64,
    group: u32,
    /// 0 marks a free slot; pane 0 is 1970 and never accepted.
    last: PaneIndex,
}

const FREE: Entry = Entry { value: 0, group: 0, last: 0 };
/// Slots swept in one go, 1 KiB: the table is a whole number of them.
const BLOCK: usize = 64;

#[derive(Debug)]
pub(crate) struct PairTable {
    entries: Vec<Entry>,
    live: usize,
    /// Blocks swept in the present round.
    swept: usize,
    /// Blocks the sweep still owes, in fractions of one.
    owed: f64,
}

impl PairTable {
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new(), live: 0, swept: 0, owed: 0.0 }
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

    /// Reads what [`Self::see`] will read first.
    #[inline]
    pub(crate) fn peek(&self, value: u64, group: u32) -> u64 {
        self.entries.get(self.home(value, group)).map_or(0, |entry| entry.value)
    }

    /// Records that `value` was seen in `group` at `pane`. Returns the pane it was last seen in before, or
    /// `None` if it is new; a pane below that leaves the newer one in place.
    #[inline]
    pub(crate) fn see(&mut self, value: u64, group: u32, pane: PaneIndex) -> Option<PaneIndex> {
        if self.live * 5 >= self.entries.len() * 4 {
            self.rebuild(self.live * 8 / 5);
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
        let blocks = self.entries.len() / BLOCK;
        self.owed = (self.owed + blocks as f64 * share).min(blocks as f64);
        let stride = stride(blocks);
        while self.owed >= 1.0 {
            self.owed -= 1.0;
            let first = self.swept * stride % blocks * BLOCK;
            let mut at = first;
            while at < first + BLOCK {
                let entry = self.entries[at];
                if entry.last != 0 && dead(entry.group, entry.last) {
                    // What shifts into this slot has not been looked at yet: stay.
                    self.remove(at);
                } else {
                    at += 1;
                }
            }
            self.swept += 1;
            if self.swept == blocks {
                self.swept = 0;
                if blocks > 1 && self.live * 4 < self.entries.len() {
                    self.owed = 0.0;
                    return self.rebuild(self.live * 2);
                }
            }
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
        let slots = slots.max(BLOCK).next_multiple_of(BLOCK);
        let old = std::mem::replace(&mut self.entries, vec![FREE; slots]);
        self.swept = 0;
        for entry in old.into_iter().filter(|entry| entry.last != 0) {
            let mut at = self.home(entry.value, entry.group);
            while self.entries[at].last != 0 {
                at = (at + 1) % slots;
            }
            self.entries[at] = entry;
        }
    }
}

/// A step that visits each of `blocks` once before it repeats, far from the last one each time: the first
/// number from the golden section down that has no divisor in common with it.
fn stride(blocks: usize) -> usize {
    let coprime = |step: usize| {
        let (mut a, mut b) = (blocks, step);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a == 1
    };
    (1..=(blocks as f64 * 0.618) as usize).rev().find(|&step| coprime(step)).unwrap_or(1)
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
                    table.sweep(0.3, |_, last| last < bound);
                    for _ in 0..2 { table.sweep(1.0, |_, last| last < bound); }
                    model.retain(|_, last| *last >= bound);
                    prop_assert_eq!(table.len(), model.len());
                }
            }
            for (&(value, group), &last) in &model {
                prop_assert_eq!(table.see(spread(value), group, last), Some(last));
            }
        }
    }

    /// However dead entries lie, sweeping and shrinking leave every entry near its home.
    #[test]
    fn sweeping_leaves_no_crowded_half() {
        let keyring = crate::key::Keyring::new([7; 16]);
        let mut table = PairTable::new();
        for n in 0..200_000_u32 {
            table.see(keyring.text(&n.to_string()) as u64, n % 997, 1 + n / 100_000);
        }
        for share in [0.5, 0.25, 0.25, 0.5, 0.5] {
            table.sweep(share, |_, last| last < 2);
            let slots = table.entries.len();
            let used = table.entries.iter().enumerate().filter(|(_, entry)| entry.last != 0);
            let far = used.map(|(at, e)| (at + slots - table.home(e.value, e.group)) % slots).max();
            assert!(far < Some(1000), "{far:?} from home in {slots} slots");
        }
        assert_eq!(table.len(), 100_000);
        table.sweep(1.0, |_, _| true);
        table.sweep(1.0, |_, _| true);
        assert_eq!((table.len(), table.entries.len()), (0, BLOCK));
    }
}
