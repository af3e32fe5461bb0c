//! The arrivals whose order could still change: those not yet behind the watermark.
//!
//! A queue in order of arrival; each arrival points at the one before it in the same group, so a group's
//! recent events are a walk along its chain. Written once an event, read only when something came out of
//! order. Memory is (events a second) × (allowed lateness) × 32 bytes.
//!
//! Arrivals are numbered modulo 2³². A number that is older than that could point at a stranger, so a walk
//! ends at an arrival of another group, and at one that is not older than the one it came from.

use super::PaneIndex;
use crate::time::Micros;
use std::collections::VecDeque;

/// An arrival's number.
pub(crate) type ArrivalNumber = u32;

/// One event of one group, or one value of it where values are counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) time: Micros,
    /// The value's fingerprint.
    pub(crate) value: u64,
    /// The arrival before it in the same group.
    pub(crate) before: ArrivalNumber,
    /// The last pane of that value before this arrival, 0 if it was new.
    pub(crate) value_was_last: PaneIndex,
    /// The group.
    pub(crate) slot: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Recent {
    queue: VecDeque<Arrival>,
    /// The number of the queue's front.
    first: ArrivalNumber,
    /// The watermark that arrivals were last let go of behind: of those before it, only some may still be here.
    complete_from: Micros,
    /// The longest the queue has been lately, and how often it was let go of since that was begun anew.
    longest: usize,
    trims: u32,
}

/// How often a queue has to be much shorter than its memory before that is given back. To do so at once would be to ask
/// for it again with the next batch.
const PATIENCE: u32 = 256;

impl Recent {
    /// The end of a chain without arrivals.
    pub(crate) fn none(&self) -> ArrivalNumber {
        self.first.wrapping_sub(1)
    }

    /// Appends an arrival and returns its number, the new end of its group's chain.
    #[inline]
    pub(crate) fn push(&mut self, arrival: Arrival) -> ArrivalNumber {
        self.queue.push_back(arrival);
        self.first.wrapping_add(self.queue.len() as u32 - 1)
    }

    /// Lets go of arrivals behind the watermark.
    #[inline]
    pub(crate) fn trim(&mut self, watermark: Micros) {
        self.complete_from = watermark;
        self.longest = self.longest.max(self.queue.len());
        while self.queue.front().is_some_and(|arrival| arrival.time < watermark) {
            self.queue.pop_front();
            self.first = self.first.wrapping_add(1);
        }
        self.trims += 1;
        if self.trims == PATIENCE {
            if self.queue.capacity() > self.longest.max(256) * 4 {
                self.queue.shrink_to(self.longest * 2);
            }
            (self.longest, self.trims) = (self.queue.len(), 0);
        }
    }

    /// From this time on no arrival is missing here.
    pub(crate) fn complete_from(&self) -> Micros {
        self.complete_from
    }

    /// Whether a group whose chain ends at `last` has no arrival here.
    pub(crate) fn has_none_of(&self, slot: u32, last: ArrivalNumber) -> bool {
        self.chain(slot, last).next().is_none()
    }

    /// The chain of a group that ends at `last`, newest arrival first.
    pub(crate) fn chain(&self, slot: u32, last: ArrivalNumber) -> impl Iterator<Item = &Arrival> {
        let mut at = last;
        let mut bound = self.queue.len();
        std::iter::from_fn(move || {
            let place = at.wrapping_sub(self.first) as usize;
            let arrival = self.queue.get(place).filter(|arrival| place < bound && arrival.slot == slot)?;
            bound = place;
            at = arrival.before;
            Some(arrival)
        })
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.queue.capacity() * size_of::<Arrival>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_end_where_they_should_also_when_numbers_come_round() {
        let mut recent = Recent { first: u32::MAX - 2, ..Recent::default() };
        let mut last = [u32::MAX - 3; 2];
        for time in 0..6 {
            let slot = time as u32 % 2;
            let before = last[slot as usize];
            last[slot as usize] = recent.push(Arrival { time, value: 0, before, value_was_last: 0, slot });
        }
        let times = |recent: &Recent, slot: u32, last| {
            recent.chain(slot, last).map(|arrival| arrival.time).collect::<Vec<_>>()
        };
        assert_eq!(times(&recent, 0, last[0]), [4, 2, 0]);
        assert_eq!(times(&recent, 1, last[1]), [5, 3, 1]);
        assert!(recent.has_none_of(2, last[1]), "another group's number");
        recent.trim(3);
        assert_eq!(times(&recent, 0, last[0]), [4]);
        recent.trim(6);
        assert!(recent.has_none_of(1, last[1]));
    }
}
