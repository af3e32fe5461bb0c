//! A hash table that never stops the world: ordered linear probing in segments of at most 4,096 slots.
//!
//! The hash's top bits choose a segment through a directory (extendible hashing: Fagin et al., 1979), the bits
//! below them a home slot. Within a segment entries are in the order of their hashes, each at its home or as
//! little behind it as those before it allow (ordered hash tables: Amble and Knuth, 1974), so that
//!
//! * a search for what is not there ends as soon as one for what is there;
//! * growing, splitting and sweeping are walks from left to right, without a search for any entry.
//!
//! A full segment grows by half until it has its most slots, then splits in two. The longest pause is one
//! segment's walk, a few microseconds, however many entries there are; between half and four-fifths of the slots
//! are in use, two-thirds on average.
//!
//! Hashes must be uniform and secret: the callers' are keyed fingerprints.

use crate::prefetch::prefetch;

/// What a slot holds.
pub(crate) trait Entry: Copy {
    /// Marks a slot that holds nothing.
    const FREE: Self;
    fn is_free(&self) -> bool;
    /// Where it belongs. Two entries may have the same.
    fn hash(&self) -> u64;
}

const FEWEST_HOMES: usize = 32;
const MOST_HOMES: usize = 4096;
/// Slots behind the last home, for what the last homes' entries push on. More are made where they do not do.
const SPARE: usize = 32;

#[derive(Debug)]
pub(crate) struct Table<E> {
    /// The top `depth` bits of a hash → its segment.
    directory: Vec<u32>,
    depth: u32,
    segments: Vec<Segment<E>>,
    live: usize,
    slots: usize,
    /// The next segment to sweep.
    sweep_at: usize,
    /// Segments the sweep still owes, in fractions of one.
    owed: f64,
}

#[derive(Debug)]
struct Segment<E> {
    slots: Vec<E>,
    homes: usize,
    live: usize,
    /// How many top bits of the hash all entries here share.
    depth: u32,
}

/// Where a search ended: at the entry, or where it would have to be.
enum Place {
    Found(usize),
    Missing(usize),
}

/// Homes for so many entries and half as many more: what is copied in growing was then added for the most part.
fn homes_for(live: usize) -> usize {
    (live * 15 / 8 + 1).max(FEWEST_HOMES)
}

impl<E: Entry> Segment<E> {
    #[inline]
    fn home(&self, hash: u64) -> usize {
        ((u128::from(hash << self.depth) * self.homes as u128) >> 64) as usize
    }

    fn is_full(&self) -> bool {
        self.live * 5 >= self.homes * 4
    }

    #[inline]
    fn search(&self, hash: u64, same: impl Fn(&E) -> bool) -> Place {
        let home = self.home(hash);
        for (at, entry) in (home..).zip(&self.slots[home..]) {
            if entry.is_free() || entry.hash() > hash {
                return Place::Missing(at);
            }
            if entry.hash() == hash && same(entry) {
                return Place::Found(at);
            }
        }
        Place::Missing(self.slots.len())
    }

    /// Puts an entry where a search missed it.
    #[inline]
    fn insert(&mut self, at: usize, entry: E) {
        let gap = self.slots[at..].iter().position(E::is_free).unwrap_or_else(|| {
            self.slots.push(E::FREE);
            self.slots.len() - 1 - at
        });
        self.slots.copy_within(at..at + gap, at + 1);
        self.slots[at] = entry;
        self.live += 1;
    }

    fn remove(&mut self, at: usize) {
        // What follows moves up, as far as it was pushed on.
        let pushed = self.slots[at + 1..].iter().zip(at + 1..);
        let moves =
            pushed.take_while(|(entry, place)| !entry.is_free() && self.home(entry.hash()) < *place).count();
        self.slots.copy_within(at + 1..=at + moves, at);
        self.slots[at + moves] = E::FREE;
        self.live -= 1;
    }

    /// A segment of these entries, which must be in order.
    fn of(entries: impl Iterator<Item = E>, homes: usize, depth: u32) -> Self {
        let slots = Vec::with_capacity(homes + SPARE);
        let mut segment = Self { slots, homes, live: 0, depth };
        for entry in entries {
            let home = segment.home(entry.hash());
            if segment.slots.len() < home {
                segment.slots.resize(home, E::FREE);
            }
            segment.slots.push(entry);
            segment.live += 1;
        }
        let least = homes + SPARE;
        segment.slots.resize(segment.slots.len().max(least), E::FREE);
        segment
    }

    fn entries(&self) -> impl Iterator<Item = E> {
        self.slots.iter().filter(|entry| !entry.is_free()).copied()
    }

    /// Keeps the entries for which `keep` holds, moving them up to where they belong now.
    fn retain(&mut self, mut keep: impl FnMut(&E) -> bool) {
        let mut next = 0;
        for at in 0..self.slots.len() {
            let entry = std::mem::replace(&mut self.slots[at], E::FREE);
            if entry.is_free() {
                continue;
            }
            if keep(&entry) {
                let to = self.home(entry.hash()).max(next);
                self.slots[to] = entry;
                next = to + 1;
            } else {
                self.live -= 1;
            }
        }
    }
}

impl<E: Entry> Default for Table<E> {
    fn default() -> Self {
        let first = Segment::of(std::iter::empty(), FEWEST_HOMES, 0);
        Self {
            directory: vec![0],
            depth: 0,
            slots: first.slots.len(),
            segments: vec![first],
            live: 0,
            sweep_at: 0,
            owed: 0.0,
        }
    }
}

impl<E: Entry> Table<E> {
    /// Entries held.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let segments = self.segments.capacity() * size_of::<Segment<E>>();
        self.slots * size_of::<E>() + segments + self.directory.capacity() * size_of::<u32>()
    }

    #[inline]
    fn segment_at(&self, hash: u64) -> usize {
        // In two steps, since a shift by all 64 bits is none.
        self.directory[((hash >> 1) >> (63 - self.depth)) as usize] as usize
    }

    /// Asks for the slots a search would begin with: so many cache lines from the home on. Most searches for what is
    /// there end in the second, most gaps for a new entry are in the third.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64, lines: usize) {
        let segment = &self.segments[self.segment_at(hash)];
        let home = segment.home(hash);
        for line in 0..lines {
            segment.slots.get(home + line * (64 / size_of::<E>())).into_iter().for_each(prefetch);
        }
    }

    #[inline]
    pub(crate) fn find(&self, hash: u64, same: impl Fn(&E) -> bool) -> Option<&E> {
        let segment = &self.segments[self.segment_at(hash)];
        match segment.search(hash, same) {
            Place::Found(at) => Some(&segment.slots[at]),
            Place::Missing(_) => None,
        }
    }

    /// The entry that is `same`, or `None` after `new` has been put in its place.
    #[inline]
    pub(crate) fn find_or_add(&mut self, new: E, same: impl Fn(&E) -> bool) -> Option<&mut E> {
        let hash = new.hash();
        let number = self.segment_at(hash);
        match self.segments[number].search(hash, same) {
            Place::Found(at) => self.segments[number].slots.get_mut(at),
            Place::Missing(at) => {
                let segment = &mut self.segments[number];
                let before = segment.slots.len();
                segment.insert(at, new);
                self.slots += segment.slots.len() - before;
                self.live += 1;
                if segment.is_full() {
                    self.grow(number);
                }
                None
            }
        }
    }

    #[cold]
    fn grow(&mut self, number: usize) {
        let segment = &self.segments[number];
        if segment.homes >= MOST_HOMES {
            return self.split(number);
        }
        let homes = homes_for(segment.live).min(MOST_HOMES);
        self.replace(number, Segment::of(segment.entries(), homes, segment.depth));
    }

    fn replace(&mut self, number: usize, by: Segment<E>) {
        self.slots = self.slots - self.segments[number].slots.len() + by.slots.len();
        self.segments[number] = by;
    }

    fn split(&mut self, number: usize) {
        let old = &self.segments[number];
        let depth = old.depth + 1;
        let is_upper = |entry: &E| (entry.hash() >> (64 - depth)) & 1 == 1;
        let upper = old.entries().filter(is_upper).count();
        let lower = old.live - upper;
        let lower_half = Segment::of(old.entries().take(lower), homes_for(lower), depth);
        let upper_half = Segment::of(old.entries().skip(lower), homes_for(upper), depth);
        if depth > self.depth {
            self.directory = self.directory.iter().flat_map(|&segment| [segment, segment]).collect();
            self.depth = depth;
        }
        self.replace(number, lower_half);
        self.slots += upper_half.slots.len();
        self.segments.push(upper_half);
        // The old segment's places in the directory are a run; its upper half is the new segment's.
        let (from, to) = (number as u32, self.segments.len() as u32 - 1);
        let places = 1_usize << (self.depth - depth);
        if let Some(first) = self.directory.iter().position(|&segment| segment == from) {
            self.directory[first + places..first + 2 * places].fill(to);
        }
    }

    /// Takes an entry out, if it is there.
    pub(crate) fn remove(&mut self, hash: u64, same: impl Fn(&E) -> bool) {
        let number = self.segment_at(hash);
        if let Place::Found(at) = self.segments[number].search(hash, same) {
            self.segments[number].remove(at);
            self.live -= 1;
            self.shrink(number);
        }
    }

    /// Looks at `share` (0 to 1) of the entries and keeps those for which `keep` holds.
    pub(crate) fn sweep(&mut self, share: f64, mut keep: impl FnMut(&E) -> bool) {
        let most = self.segments.len() as f64;
        self.owed = (self.owed + most * share).min(most);
        while self.owed >= 1.0 {
            self.owed -= 1.0;
            self.sweep_at = (self.sweep_at + 1) % self.segments.len();
            let segment = &mut self.segments[self.sweep_at];
            let before = segment.live;
            segment.retain(&mut keep);
            self.live -= before - segment.live;
            self.shrink(self.sweep_at);
        }
    }

    /// Gives memory back where most of a segment is free.
    fn shrink(&mut self, number: usize) {
        let segment = &self.segments[number];
        let homes = homes_for(segment.live);
        if homes < segment.homes / 2 {
            self.replace(number, Segment::of(segment.entries(), homes, segment.depth));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[derive(Debug, Clone, Copy, PartialEq)]
    struct Pair(u64, u32);

    impl Entry for Pair {
        const FREE: Self = Self(0, 0);
        fn is_free(&self) -> bool {
            self.1 == 0
        }
        fn hash(&self) -> u64 {
            // Two keys have one hash.
            self.0 & !1
        }
    }

    fn see(table: &mut Table<Pair>, key: u64, value: u32) -> Option<u32> {
        let found = table.find_or_add(Pair(key, value), |pair| pair.0 == key);
        found.map(|pair| std::mem::replace(&mut pair.1, value))
    }

    fn is_in_order(table: &Table<Pair>) -> bool {
        table.segments.iter().all(|segment| {
            let near =
                segment.slots.iter().enumerate().filter(|(_, pair)| !pair.is_free()).all(|(at, pair)| {
                    let home = segment.home(pair.hash());
                    home <= at && segment.slots[home..at].iter().all(|between| !between.is_free())
                });
            near && segment.entries().map(|pair| pair.hash()).is_sorted()
                && segment.entries().count() == segment.live
        })
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(
            steps in prop::collection::vec((0_u64..200, 1_u32..50, prop::bool::weighted(0.2)), 1..800),
            bound in 0_u32..50, crowded in any::<bool>(),
        ) {
            // Few distinct high bits push everything to one end of a segment, and over it.
            let spread = |key: u64| if crowded { u64::MAX - key } else { key.wrapping_mul(0x9E37_79B9_7F4A_7C15) };
            let (mut table, mut model) = (Table::<Pair>::default(), HashMap::new());
            for (step, &(key, value, removes)) in steps.iter().enumerate() {
                let key = spread(key);
                if removes {
                    table.remove(key & !1, |pair| pair.0 == key);
                    model.remove(&key);
                } else {
                    prop_assert_eq!(see(&mut table, key, value), model.insert(key, value));
                }
                if step % 100 == 99 {
                    table.sweep(1.0, |pair| pair.1 >= bound);
                    model.retain(|_, value| *value >= bound);
                }
                prop_assert_eq!(table.len(), model.len());
            }
            prop_assert!(is_in_order(&table));
            for (&key, &value) in &model {
                prop_assert_eq!(table.find(key & !1, |pair| pair.0 == key), Some(&Pair(key, value)));
            }
        }
    }

    #[test]
    fn splits_keep_everything_and_stay_dense() {
        let keyring = crate::key::Keyring::new([7; 16]);
        let key = |n: u32| keyring.print(&n.to_le_bytes()).low;
        let mut table = Table::default();
        for n in 1..=300_000_u32 {
            assert_eq!(see(&mut table, key(n), n), None);
            let dense = n < 100 || table.slots <= n as usize * 2 + table.segments.len() * 64;
            assert!(dense, "{n} entries in {} slots", table.slots);
        }
        assert!(
            (1..=300_000).all(|n| table.find(key(n) & !1, |pair| pair.0 == key(n)) == Some(&Pair(key(n), n)))
        );
        assert!(is_in_order(&table));
        assert_eq!(table.segments.iter().map(|segment| segment.slots.len()).sum::<usize>(), table.slots);
        for share in [0.5, 0.25, 0.25] {
            table.sweep(share, |pair| pair.1 > 200_000);
        }
        assert_eq!(table.len(), 100_000);
        assert!(table.slots < 300_000, "{}", table.slots);
        assert!(is_in_order(&table));
        assert!((200_001..=300_000).all(|n| see(&mut table, key(n), n) == Some(n)));
        table.sweep(1.0, |_| false);
        assert_eq!((table.len(), table.slots), (0, table.segments.len() * (FEWEST_HOMES + SPARE)));
    }
}
