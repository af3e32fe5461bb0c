//! The arrivals whose order could still change: those not yet behind the watermark.
//!
//! [`Arrivals`] is a queue in order of arrival, one for a stream; each arrival points at the one before it in the same
//! group, so a group's recent events are a walk along its chain. [`Values`] is beside it, one for each window that counts
//! values: which values an arrival had, and where that window had last seen them. Both are written once an event and read
//! only when something came out of order. Memory is (events a second) × (allowed lateness) × 16 bytes for each.
//!
//! Arrivals are numbered modulo 2³². A number that is older than that could point at a stranger, so a walk
//! ends at an arrival of another group, and at one that is not older than the one it came from.

use super::PaneIndex;
use crate::codec::{Damaged, Reader, Writer};
use crate::key::Fingerprint;
use crate::time::Micros;
use std::collections::VecDeque;

/// An arrival's number.
pub(crate) type ArrivalNumber = u32;

/// One event of one group.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    time: Micros,
    /// The arrival before it in the same group.
    before: ArrivalNumber,
    /// The group.
    slot: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    queue: VecDeque<Arrival>,
    /// The number of the queue's front.
    first: ArrivalNumber,
    /// The watermark that arrivals were last let go of behind: of those before it, only some may still be here.
    complete_from: Micros,
    use_of_queue: Use,
}

impl Arrivals {
    /// The end of a chain without arrivals.
    pub(crate) fn none(&self) -> ArrivalNumber {
        self.first.wrapping_sub(1)
    }

    /// The number the next arrival will have.
    pub(crate) fn next(&self) -> ArrivalNumber {
        self.first.wrapping_add(self.queue.len() as u32)
    }

    /// The oldest arrival's number.
    pub(crate) fn first(&self) -> ArrivalNumber {
        self.first
    }

    /// Appends an arrival in a group, whose chain ended at `before`, and returns its number.
    #[inline]
    pub(crate) fn push(&mut self, slot: u32, time: Micros, before: ArrivalNumber) -> ArrivalNumber {
        let number = self.next();
        self.queue.push_back(Arrival { time, before, slot });
        number
    }

    /// Lets go of arrivals behind the watermark.
    pub(crate) fn trim(&mut self, watermark: Micros) {
        self.complete_from = watermark;
        self.use_of_queue.see(&mut self.queue);
        let gone = self.queue.iter().take_while(|arrival| arrival.time < watermark).count();
        self.queue.drain(..gone);
        self.first = self.first.wrapping_add(gone as ArrivalNumber);
    }

    /// From this time on no arrival is missing here.
    pub(crate) fn complete_from(&self) -> Micros {
        self.complete_from
    }

    /// The chain of a group that ends at `last`, newest arrival first: numbers and times.
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

    pub(crate) fn save(&self, to: &mut Writer) {
        to.u32(self.first);
        to.i64(self.complete_from);
        to.list(self.queue.iter(), |to, arrival| {
            to.i64(arrival.time);
            to.u32(arrival.before);
            to.u32(arrival.slot);
        });
    }

    pub(crate) fn load(from: &mut Reader<'_>) -> Result<Self, Damaged> {
        let (first, complete_from) = (from.u32()?, from.i64()?);
        let queue = from.list(size_of::<Arrival>(), |from| {
            Ok(Arrival { time: from.i64()?, before: from.u32()?, slot: from.u32()? })
        })?;
        Ok(Self { queue, first, complete_from, use_of_queue: Use::default() })
    }
}

/// A value of an arrival.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) value: Fingerprint,
    /// The last pane of that value before this arrival, 0 if it was new.
    pub(crate) was_last: PaneIndex,
    arrival: ArrivalNumber,
}

/// The values of recent arrivals, in one window.
#[derive(Debug, Default)]
pub(crate) struct Values {
    queue: VecDeque<Seen>,
    use_of_queue: Use,
}

impl Values {
    #[inline]
    pub(crate) fn push(&mut self, arrival: ArrivalNumber, value: Fingerprint, was_last: PaneIndex) {
        self.queue.push_back(Seen { value, was_last, arrival });
    }

    /// The values of an arrival; `first` is the oldest there is.
    pub(crate) fn of(&self, arrival: ArrivalNumber, first: ArrivalNumber) -> impl Iterator<Item = &Seen> {
        let age = |number: ArrivalNumber| number.wrapping_sub(first);
        let from = self.queue.partition_point(|seen| age(seen.arrival) < age(arrival));
        self.queue.range(from..).take_while(move |seen| seen.arrival == arrival)
    }

    /// Lets go of the values of arrivals before `first`, which has come on from `before`.
    pub(crate) fn trim(&mut self, before: ArrivalNumber, first: ArrivalNumber) {
        self.use_of_queue.see(&mut self.queue);
        let gone = first.wrapping_sub(before);
        let seen = self.queue.iter().take_while(|seen| seen.arrival.wrapping_sub(before) < gone).count();
        self.queue.drain(..seen);
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.queue.capacity() * size_of::<Seen>()
    }

    pub(crate) fn save(&self, to: &mut Writer) {
        to.list(self.queue.iter(), |to, seen| {
            to.u64(seen.value);
            to.u32(seen.was_last);
            to.u32(seen.arrival);
        });
    }

    pub(crate) fn load(from: &mut Reader<'_>) -> Result<Self, Damaged> {
        let queue = from.list(size_of::<Seen>(), |from| {
            Ok(Seen { value: from.u64()?, was_last: from.u32()?, arrival: from.u32()? })
        })?;
        Ok(Self { queue, use_of_queue: Use::default() })
    }
}

/// How much of its memory a queue has used lately, so that what a rush has taken is given back some time after. To give
/// it back at once would be to ask for it again with the next batch.
#[derive(Debug, Default)]
struct Use {
    longest: usize,
    times: u32,
}

impl Use {
    /// How often a queue is looked at before memory is given back.
    const PATIENCE: u32 = 256;

    fn see<T>(&mut self, queue: &mut VecDeque<T>) {
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
    fn chains_end_where_they_should_also_when_numbers_come_round() {
        let mut arrivals = Arrivals { first: u32::MAX - 2, ..Arrivals::default() };
        let mut values = Values::default();
        let mut last = [u32::MAX - 3; 2];
        for time in 0..6 {
            let slot = time as u32 % 2;
            last[slot as usize] = arrivals.push(slot, time, last[slot as usize]);
            for n in 0..time as u64 % 3 {
                values.push(last[slot as usize], 10 * time as u64 + n, 0);
            }
        }
        let times = |arrivals: &Arrivals, slot: u32, last| {
            arrivals.chain(slot, last).map(|(_, time)| time).collect::<Vec<_>>()
        };
        let seen = |arrivals: &Arrivals, values: &Values, slot: u32, last| {
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
    fn memory_is_given_back_some_time_after_a_rush() {
        let mut arrivals = Arrivals::default();
        for time in 0..100_000 {
            arrivals.push(0, time, 0);
        }
        for n in 0..2 * Use::PATIENCE {
            arrivals.trim(100_000 + Micros::from(n));
        }
        assert!(arrivals.heap_bytes() < 100_000, "{}", arrivals.heap_bytes());
    }
}
