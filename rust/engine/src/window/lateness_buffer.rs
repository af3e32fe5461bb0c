//! Lateness buffer: copies of the events that the watermark has not passed, which an out-of-order event can still
//! precede. The buffer delays nothing: each event was counted on arrival.
//!
//! [`LatenessBuffer`] is a queue in arrival order, one per stream. Each entry links to the previous entry of the same
//! group, so a group's recent events form a chain. [`ArrivalValues`] runs parallel to it, one per window that counts
//! values: the values of each entry and the pane in which the window had last seen them. Every event is appended to
//! both; they are read only to recompute past panes.
//!
//! Cost: 16 bytes per entry and per value; entries = event rate × allowed lateness.
//!
//! Entry numbers wrap at 2³². A link to a removed entry can therefore point to an unrelated one, so a walk along a
//! chain ends at an entry of another group, and at an entry that is not older than the one it came from.

use super::panes::PaneIndex;
use crate::foundation::codec::{Damaged, StateReader, StateWriter};
use crate::foundation::fingerprint::Fingerprint;
use crate::foundation::time::Micros;
use std::collections::VecDeque;

/// Number of an entry, modulo 2³².
pub(crate) type ArrivalNumber = u32;

/// One event in one group.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    time: Micros,
    /// Previous entry of the same group.
    before: ArrivalNumber,
    /// Slot of the group.
    slot: u32,
}

#[derive(Debug, Default)]
pub(crate) struct LatenessBuffer {
    queue: VecDeque<Arrival>,
    /// Number of the oldest entry in the queue.
    first: ArrivalNumber,
    /// Watermark of the last trim; entries of events before it may be missing.
    complete_from: Micros,
    capacity: CapacityTracker,
}

impl LatenessBuffer {
    /// Chain end of a group without entries.
    pub(crate) fn none(&self) -> ArrivalNumber {
        self.first.wrapping_sub(1)
    }

    /// Number of the next entry.
    pub(crate) fn next(&self) -> ArrivalNumber {
        self.first.wrapping_add(self.queue.len() as u32)
    }

    /// Number of the oldest entry.
    pub(crate) fn first(&self) -> ArrivalNumber {
        self.first
    }

    /// Appends an event to a group's chain, which ended at `before`, and returns its number.
    #[inline]
    pub(crate) fn push(&mut self, slot: u32, time: Micros, before: ArrivalNumber) -> ArrivalNumber {
        let number = self.next();
        self.queue.push_back(Arrival { time, before, slot });
        number
    }

    /// Removes the entries that the watermark passed, up to the first that it has not passed. Passed entries behind
    /// that one stay until it is removed.
    pub(crate) fn trim(&mut self, watermark: Micros) {
        self.complete_from = watermark;
        self.capacity.note(&mut self.queue);
        let gone = self.queue.iter().take_while(|arrival| arrival.time < watermark).count();
        self.queue.drain(..gone);
        self.first = self.first.wrapping_add(gone as ArrivalNumber);
    }

    /// Event time from which on no entry is missing.
    pub(crate) fn complete_from(&self) -> Micros {
        self.complete_from
    }

    /// Numbers and times of the chain that ends at `last`, newest first.
    pub(crate) fn chain(
        &self,
        slot: u32,
        last: ArrivalNumber,
    ) -> impl Iterator<Item = (ArrivalNumber, Micros)> {
        let mut at = last;
        let mut bound = self.queue.len();
        std::iter::from_fn(move || {
            let number = at;
            let place = number.wrapping_sub(self.first) as usize;
            let arrival = self.queue.get(place).filter(|arrival| place < bound && arrival.slot == slot)?;
            bound = place;
            at = arrival.before;
            Some((number, arrival.time))
        })
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.queue.capacity() * size_of::<Arrival>()
    }

    pub(crate) fn save(&self, to: &mut StateWriter) {
        to.u32(self.first);
        to.i64(self.complete_from);
        to.list(self.queue.iter(), |to, arrival| {
            to.i64(arrival.time);
            to.u32(arrival.before);
            to.u32(arrival.slot);
        });
    }

    pub(crate) fn load(from: &mut StateReader<'_>) -> Result<Self, Damaged> {
        let (first, complete_from) = (from.u32()?, from.i64()?);
        let queue = from.list(size_of::<Arrival>(), |from| {
            Ok(Arrival { time: from.i64()?, before: from.u32()?, slot: from.u32()? })
        })?;
        Ok(Self { queue, first, complete_from, capacity: CapacityTracker::default() })
    }
}

/// One value of an entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ArrivedValue {
    pub(crate) value: Fingerprint,
    /// Pane in which the value was last seen before this entry; 0 if it was new.
    pub(crate) previous_pane: PaneIndex,
    arrival: ArrivalNumber,
}

/// Values of the entries, for one window.
#[derive(Debug, Default)]
pub(crate) struct ArrivalValues {
    queue: VecDeque<ArrivedValue>,
    capacity: CapacityTracker,
}

impl ArrivalValues {
    #[inline]
    pub(crate) fn push(&mut self, arrival: ArrivalNumber, value: Fingerprint, previous_pane: PaneIndex) {
        self.queue.push_back(ArrivedValue { value, previous_pane, arrival });
    }

    /// Values of an entry; `first` is the oldest entry in the buffer.
    pub(crate) fn of(
        &self,
        arrival: ArrivalNumber,
        first: ArrivalNumber,
    ) -> impl Iterator<Item = &ArrivedValue> {
        let age = |number: ArrivalNumber| number.wrapping_sub(first);
        let from = self.queue.partition_point(|seen| age(seen.arrival) < age(arrival));
        self.queue.range(from..).take_while(move |seen| seen.arrival == arrival)
    }

    /// Removes the values of entries before `first`; `before` was the oldest entry until now.
    pub(crate) fn trim(&mut self, before: ArrivalNumber, first: ArrivalNumber) {
        self.capacity.note(&mut self.queue);
        let gone = first.wrapping_sub(before);
        let seen = self.queue.iter().take_while(|seen| seen.arrival.wrapping_sub(before) < gone).count();
        self.queue.drain(..seen);
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.queue.capacity() * size_of::<ArrivedValue>()
    }

    pub(crate) fn save(&self, to: &mut StateWriter) {
        to.list(self.queue.iter(), |to, seen| {
            to.u64(seen.value);
            to.u32(seen.previous_pane);
            to.u32(seen.arrival);
        });
    }

    pub(crate) fn load(from: &mut StateReader<'_>) -> Result<Self, Damaged> {
        let queue = from.list(size_of::<ArrivedValue>(), |from| {
            Ok(ArrivedValue { value: from.u64()?, previous_pane: from.u32()?, arrival: from.u32()? })
        })?;
        Ok(Self { queue, capacity: CapacityTracker::default() })
    }
}

/// Tracks how much of a queue's capacity is used, to free memory some time after a burst. Freeing it at once would
/// only reallocate it for the next batch.
#[derive(Debug, Default)]
struct CapacityTracker {
    longest: usize,
    times: u32,
}

impl CapacityTracker {
    /// Number of trims between two checks.
    const PATIENCE: u32 = 256;

    fn note<T>(&mut self, queue: &mut VecDeque<T>) {
        self.longest = self.longest.max(queue.len());
        self.times += 1;
        if self.times == Self::PATIENCE {
            if queue.capacity() > self.longest.max(256) * 4 {
                queue.shrink_to(self.longest * 2);
            }
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_end_correctly_when_numbers_wrap() {
        let mut arrivals = LatenessBuffer { first: u32::MAX - 2, ..LatenessBuffer::default() };
        let mut values = ArrivalValues::default();
        let mut last = [u32::MAX - 3; 2];
        for time in 0..6 {
            let slot = time as u32 % 2;
            last[slot as usize] = arrivals.push(slot, time, last[slot as usize]);
            for n in 0..time as u64 % 3 {
                values.push(last[slot as usize], 10 * time as u64 + n, 0);
            }
        }
        let times = |arrivals: &LatenessBuffer, slot: u32, last| {
            arrivals.chain(slot, last).map(|(_, time)| time).collect::<Vec<_>>()
        };
        let seen = |arrivals: &LatenessBuffer, values: &ArrivalValues, slot: u32, last| {
            let chain = arrivals.chain(slot, last);
            chain
                .flat_map(|(number, _)| values.of(number, arrivals.first()).map(|seen| seen.value))
                .collect::<Vec<_>>()
        };
        assert_eq!(times(&arrivals, 0, last[0]), [4, 2, 0]);
        assert_eq!(times(&arrivals, 1, last[1]), [5, 3, 1]);
        assert_eq!(seen(&arrivals, &values, 0, last[0]), [40, 20, 21]);
        assert_eq!(seen(&arrivals, &values, 1, last[1]), [50, 51, 10]);
        assert!(times(&arrivals, 2, last[1]).is_empty(), "another group's number");
        for (watermark, left) in [(3, vec![40]), (6, vec![])] {
            let before = arrivals.first();
            arrivals.trim(watermark);
            values.trim(before, arrivals.first());
            assert_eq!(seen(&arrivals, &values, 0, last[0]), left);
        }
        assert!(times(&arrivals, 1, last[1]).is_empty());
        assert!(values.queue.is_empty());
    }

    #[test]
    fn memory_is_freed_some_time_after_a_burst() {
        let mut arrivals = LatenessBuffer::default();
        for time in 0..100_000 {
            arrivals.push(0, time, 0);
        }
        for n in 0..2 * CapacityTracker::PATIENCE {
            arrivals.trim(100_000 + Micros::from(n));
        }
        assert!(arrivals.heap_bytes() < 100_000, "{}", arrivals.heap_bytes());
    }
}
