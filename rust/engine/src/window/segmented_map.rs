//! Hash map from 64-bit keys to 32-bit numbers whose growth never causes a long pause.
//!
//! Buckets are one cache line each and grouped into segments of at most 1,024 buckets. A bucket holds five entries.
//! An entry whose bucket is full is stored in a later bucket of the segment, and sets a mark (one of 16 bits) in each
//! bucket it passes; a search therefore ends at the first bucket without the key's mark. Marks are cleared only when
//! a segment is rebuilt.
//!
//! The top bits of a key select a segment through a directory (extendible hashing, Fagin et al., 1979), the following
//! bits a bucket. A full segment grows by half until it has the maximum number of buckets, then it splits in two. The
//! longest pause is rebuilding one segment, about ten microseconds, however large the map is. Between one half and
//! four fifths of the room is used, two thirds on average: 19 bytes per entry.
//!
//! Keys must be uniformly distributed and secret: the callers use keyed fingerprints.

use crate::foundation::codec::{Damaged, StateReader, StateWriter};
use crate::foundation::prefetch::prefetch_at;

/// Entries per bucket.
const ROOM: usize = 5;
const FEWEST_BUCKETS: usize = 8;
const MOST_BUCKETS: usize = 1024;
/// Distance, in buckets, between announcing an entry and visiting it in a sweep.
const SWEPT_AHEAD: usize = 3;

/// Stage of a sweep at which an entry is visited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Swept {
    /// Announced: prefetch what the entry refers to.
    Soon,
    /// Visited: decide whether to keep it.
    Now,
}

/// One cache line.
#[derive(Debug, Clone, Default)]
#[repr(align(64))]
struct Bucket {
    keys: [u64; ROOM],
    values: [u32; ROOM],
    /// Number of used entries, from the start.
    taken: u8,
    /// Marks of the entries that passed this bucket.
    passed: u16,
}

impl Bucket {
    #[inline]
    fn find(&self, key: u64) -> Option<usize> {
        // Comparing all five entries, used or not, is faster than branching on their number.
        let hit = |at: usize| u32::from(self.keys[at] == key) << at;
        let hits = (hit(0) | hit(1) | hit(2) | hit(3) | hit(4)) & ((1 << self.taken) - 1);
        (hits != 0).then(|| hits.trailing_zeros() as usize % ROOM)
    }

    #[inline]
    fn has_room(&self) -> bool {
        usize::from(self.taken) < ROOM
    }

    /// Adds an entry to a bucket that has room.
    #[inline]
    fn put(&mut self, key: u64, value: u32) {
        let at = usize::from(self.taken).min(ROOM - 1);
        (self.keys[at], self.values[at]) = (key, value);
        self.taken += 1;
    }

    #[inline]
    fn entries(&self) -> impl Iterator<Item = (u64, u32)> {
        self.keys.iter().copied().zip(self.values).take(usize::from(self.taken))
    }
}

#[derive(Debug)]
struct Segment {
    buckets: Vec<Bucket>,
    live: usize,
    /// Number of top bits that all keys of the segment share.
    depth: u32,
}

/// Mark of a key, from bits that select neither a shard nor a bucket.
#[inline]
fn mark(key: u64) -> u16 {
    1 << (key >> 8 & 15)
}

/// Number of buckets for one and a half times as many entries, so that a rebuild is paid for by the entries added
/// since.
fn buckets_for(live: usize) -> usize {
    (live * 15 / (8 * ROOM) + 1).max(FEWEST_BUCKETS)
}

impl Segment {
    fn new(buckets: usize, depth: u32) -> Self {
        Self { buckets: vec![Bucket::default(); buckets], live: 0, depth }
    }

    /// Copy of the segment with another number of buckets.
    fn rebuilt(&self, buckets: usize) -> Self {
        let mut segment = Self::new(buckets, self.depth);
        self.for_each(|key, value| segment.insert(key, value));
        segment
    }

    /// Bucket in which a search for the key starts.
    #[inline]
    fn home(&self, key: u64) -> usize {
        ((u128::from(key << self.depth) * self.buckets.len() as u128) >> 64) as usize
    }

    #[inline]
    fn after(&self, bucket: usize) -> usize {
        if bucket + 1 == self.buckets.len() { 0 } else { bucket + 1 }
    }

    fn is_full(&self) -> bool {
        self.live * 5 >= self.buckets.len() * ROOM * 4
    }

    /// Bucket of a key and position in it. Terminates because a bucket with room has no marks and every segment has
    /// one.
    #[inline]
    fn find(&self, key: u64) -> Option<(usize, usize)> {
        let mut at = self.home(key);
        loop {
            let bucket = &self.buckets[at];
            if let Some(place) = bucket.find(key) {
                return Some((at, place));
            }
            if bucket.passed & mark(key) == 0 {
                return None;
            }
            at = self.after(at);
        }
    }

    /// Adds a key that is not present. A segment is rebuilt before it is full, so there is room.
    #[inline]
    fn insert(&mut self, key: u64, value: u32) {
        let mut at = self.home(key);
        while !self.buckets[at].has_room() {
            self.buckets[at].passed |= mark(key);
            at = self.after(at);
        }
        self.buckets[at].put(key, value);
        self.live += 1;
    }

    fn load(from: &mut StateReader<'_>) -> Result<Self, Damaged> {
        let depth = from.u32()?;
        let live = from.len(size_of::<u64>() + size_of::<u32>())?;
        let mut segment = Self::new(buckets_for(live).min(MOST_BUCKETS), depth);
        for _ in 0..live {
            if segment.is_full() {
                return Err(Damaged("a segment has too many entries"));
            }
            let (key, value) = (from.u64()?, from.u32()?);
            segment.insert(key, value);
        }
        Ok(segment)
    }

    /// Visits all entries, bucket by bucket.
    fn for_each(&self, mut each: impl FnMut(u64, u32)) {
        for bucket in &self.buckets {
            bucket.entries().for_each(|(key, value)| each(key, value));
        }
    }
}

#[derive(Debug)]
pub(crate) struct SegmentedMap {
    /// Top `depth` bits of a key → segment.
    directory: Vec<u32>,
    depth: u32,
    segments: Vec<Segment>,
    live: usize,
    buckets: usize,
    /// Next segment to sweep.
    sweep_at: usize,
    /// Segments due to be swept; the fraction is carried over.
    owed: f64,
}

impl Default for SegmentedMap {
    fn default() -> Self {
        Self {
            directory: vec![0],
            depth: 0,
            segments: vec![Segment::new(FEWEST_BUCKETS, 0)],
            live: 0,
            buckets: FEWEST_BUCKETS,
            sweep_at: 0,
            owed: 0.0,
        }
    }
}

impl SegmentedMap {
    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let segments = self.segments.capacity() * size_of::<Segment>();
        self.buckets * size_of::<Bucket>() + segments + self.directory.capacity() * size_of::<u32>()
    }

    #[inline]
    fn segment_at(&self, key: u64) -> usize {
        // Two shifts, because shifting by all 64 bits is undefined.
        self.directory[((key >> 1) >> (63 - self.depth)) as usize] as usize
    }

    /// Prefetches the first bucket of a search and the next one, which every third new key needs.
    #[inline]
    pub(crate) fn prefetch(&self, key: u64) {
        let segment = &self.segments[self.segment_at(key)];
        let home = segment.buckets.as_ptr().wrapping_add(segment.home(key));
        prefetch_at(home);
        prefetch_at(home.wrapping_add(1));
    }

    #[inline]
    pub(crate) fn find(&self, key: u64) -> Option<u32> {
        let segment = &self.segments[self.segment_at(key)];
        segment.find(key).map(|(bucket, place)| segment.buckets[bucket].values[place])
    }

    /// Returns the number of a key; if the key is new, stores `value` and returns `None`.
    #[inline]
    pub(crate) fn find_or_add(&mut self, key: u64, value: u32) -> Option<&mut u32> {
        let number = self.segment_at(key);
        let segment = &mut self.segments[number];
        if let Some((bucket, place)) = segment.find(key) {
            return Some(&mut self.segments[number].buckets[bucket].values[place]);
        }
        segment.insert(key, value);
        self.live += 1;
        if segment.is_full() {
            self.grow(number);
        }
        None
    }

    #[cold]
    fn grow(&mut self, number: usize) {
        let segment = &self.segments[number];
        if segment.buckets.len() >= MOST_BUCKETS {
            return self.split(number);
        }
        let buckets = buckets_for(segment.live).min(MOST_BUCKETS);
        self.replace(number, segment.rebuilt(buckets));
    }

    fn replace(&mut self, number: usize, by: Segment) {
        self.buckets = self.buckets - self.segments[number].buckets.len() + by.buckets.len();
        self.segments[number] = by;
    }

    fn split(&mut self, number: usize) {
        let old = &self.segments[number];
        let depth = old.depth + 1;
        let half_of = |key: u64| (key >> (64 - depth)) as usize & 1;
        let mut live = [0; 2];
        old.for_each(|key, _| live[half_of(key)] += 1);
        let mut halves = live.map(|live| Segment::new(buckets_for(live), depth));
        old.for_each(|key, value| halves[half_of(key)].insert(key, value));
        let [lower_half, upper_half] = halves;
        if depth > self.depth {
            self.directory = self.directory.iter().flat_map(|&segment| [segment, segment]).collect();
            self.depth = depth;
        }
        self.replace(number, lower_half);
        self.buckets += upper_half.buckets.len();
        self.segments.push(upper_half);
        // A segment occupies a run in the directory; its upper half becomes the new segment's.
        let (from, to) = (number as u32, self.segments.len() as u32 - 1);
        let places = 1_usize << (self.depth - depth);
        if let Some(first) = self.directory.iter().position(|&segment| segment == from) {
            self.directory[first + places..first + 2 * places].fill(to);
        }
    }

    /// Saves all entries, segment by segment in the order of their keys' top bits.
    pub(crate) fn save(&self, to: &mut StateWriter) {
        to.u32(self.depth);
        let mut at = 0;
        while let Some(&number) = self.directory.get(at) {
            let segment = &self.segments[number as usize];
            at += 1 << (self.depth - segment.depth);
            to.u32(segment.depth);
            to.len(segment.live);
            segment.for_each(|key, value| {
                to.u64(key);
                to.u32(value);
            });
        }
    }

    pub(crate) fn load(from: &mut StateReader<'_>) -> Result<Self, Damaged> {
        let depth = from.u32()?;
        if depth > 31 {
            return Err(Damaged("a table is too deep"));
        }
        let mut table =
            Self { depth, directory: Vec::new(), segments: Vec::new(), buckets: 0, ..Self::default() };
        while table.directory.len() < 1 << depth {
            let segment = Segment::load(from)?;
            let places =
                1_usize << depth.checked_sub(segment.depth).ok_or(Damaged("a segment is too deep"))?;
            let first = table.directory.len();
            let belongs = |key: u64| ((key >> 1) >> (63 - depth)) as usize & !(places - 1) == first;
            let mut all = true;
            segment.for_each(|key, _| all &= belongs(key));
            if !all {
                return Err(Damaged("an entry is in the wrong segment"));
            }
            table.directory.extend(std::iter::repeat_n(table.segments.len() as u32, places));
            table.live += segment.live;
            table.buckets += segment.buckets.len();
            table.segments.push(segment);
        }
        Ok(table)
    }

    /// Numbers of all entries.
    pub(crate) fn values(&self) -> impl Iterator<Item = u32> {
        let buckets = self.segments.iter().flat_map(|segment| &segment.buckets);
        buckets.flat_map(|bucket| bucket.entries().map(|(_, value)| value))
    }

    /// Keeps the entries for whose number `keep` returns true, and frees all memory of the others.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(u32) -> bool) {
        for number in 0..self.segments.len() {
            self.sweep_segment(number, 1, &mut |value, when| when == Swept::Soon || keep(value));
        }
    }

    /// Visits `share` (0 to 1) of the entries and keeps those for whose number `keep` returns true. Each is announced
    /// with [`Swept::Soon`] shortly before.
    pub(crate) fn sweep(&mut self, share: f64, mut keep: impl FnMut(u32, Swept) -> bool) {
        let most = self.segments.len() as f64;
        self.owed = (self.owed + most * share).min(most);
        while self.owed >= 1.0 {
            self.owed -= 1.0;
            self.sweep_at = (self.sweep_at + 1) % self.segments.len();
            self.sweep_segment(self.sweep_at, 2, &mut keep);
        }
    }

    /// Frees memory if the segment has more than `loose` times the buckets it needs.
    fn sweep_segment(&mut self, number: usize, loose: usize, keep: &mut impl FnMut(u32, Swept) -> bool) {
        let segment = &self.segments[number];
        let mut kept = Segment::new(segment.buckets.len(), segment.depth);
        for (at, bucket) in segment.buckets.iter().enumerate() {
            if let Some(later) = segment.buckets.get(at + SWEPT_AHEAD) {
                for (_, value) in later.entries() {
                    keep(value, Swept::Soon);
                }
            }
            for (key, value) in bucket.entries() {
                if keep(value, Swept::Now) {
                    kept.insert(key, value);
                }
            }
        }
        if kept.live == segment.live {
            return;
        }
        self.live -= segment.live - kept.live;
        let wanted = buckets_for(kept.live);
        let kept = if wanted * loose < kept.buckets.len() { kept.rebuilt(wanted) } else { kept };
        self.replace(number, kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn record(table: &mut SegmentedMap, key: u64, value: u32) -> Option<u32> {
        table.find_or_add(key, value).map(|known| std::mem::replace(known, value))
    }

    /// Every bucket has exactly the marks of the entries that passed it.
    fn is_sound(table: &SegmentedMap) -> bool {
        table.segments.iter().all(|segment| {
            let mut passed = vec![0; segment.buckets.len()];
            for (at, bucket) in segment.buckets.iter().enumerate() {
                for (key, _) in bucket.entries() {
                    let mut home = segment.home(key);
                    while home != at {
                        passed[home] |= mark(key);
                        home = segment.after(home);
                    }
                }
            }
            let known: Vec<u16> = segment.buckets.iter().map(|bucket| bucket.passed).collect();
            known == passed
                && segment.buckets.iter().map(|bucket| usize::from(bucket.taken)).sum::<usize>()
                    == segment.live
        })
    }

    #[test]
    fn a_bucket_is_a_cache_line() {
        assert_eq!((size_of::<Bucket>(), align_of::<Bucket>()), (64, 64));
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(
            steps in prop::collection::vec((0_u64..300, 1_u32..50), 1..1200),
            bound in 0_u32..50, crowded in any::<bool>(),
        ) {
            // Keys that differ only in low bits crowd one end of a segment and overflow it.
            let spread = |key: u64| if crowded { u64::MAX - key } else { key.wrapping_mul(0x9E37_79B9_7F4A_7C15) };
            let (mut table, mut model) = (SegmentedMap::default(), HashMap::new());
            for (step, &(key, value)) in steps.iter().enumerate() {
                let key = spread(key);
                prop_assert_eq!(record(&mut table, key, value), model.insert(key, value));
                if step % 100 == 99 {
                    if step % 200 == 99 {
                        table.sweep(1.0, |value, _| value >= bound);
                    } else {
                        table.retain(|value| value >= bound);
                    }
                    model.retain(|_, value| *value >= bound);
                }
                prop_assert_eq!(table.len(), model.len());
            }
            prop_assert!(is_sound(&table));
            for key in (0..300).map(spread) {
                prop_assert_eq!(table.find(key), model.get(&key).copied());
            }
        }
    }

    #[test]
    fn splits_keep_everything_and_stay_dense() {
        let fingerprinter = crate::foundation::fingerprint::Fingerprinter::new([7; 16]);
        let key = |n: u32| fingerprinter.fingerprint(&n.to_le_bytes());
        let mut table = SegmentedMap::default();
        for n in 1..=300_000_u32 {
            assert_eq!(record(&mut table, key(n), n), None);
            let dense = n < 100 || table.buckets * ROOM <= n as usize * 2 + table.segments.len() * 64;
            assert!(dense, "{n} entries in {} buckets", table.buckets);
        }
        assert!((1..=300_000).all(|n| table.find(key(n)) == Some(n)));
        assert!(is_sound(&table));
        let buckets = table.segments.iter().map(|segment| segment.buckets.len()).sum::<usize>();
        assert_eq!(buckets, table.buckets);
        for share in [0.5, 0.25, 0.25] {
            table.sweep(share, |value, _| value > 200_000);
        }
        assert_eq!(table.len(), 100_000);
        assert!(table.buckets * ROOM < 300_000, "{}", table.buckets);
        assert!(is_sound(&table));
        assert!((200_001..=300_000).all(|n| record(&mut table, key(n), n) == Some(n)));
        table.sweep(1.0, |_, _| false);
        assert_eq!((table.len(), table.buckets), (0, table.segments.len() * FEWEST_BUCKETS));
    }
}
