//! The arrivals whose order could still change: those not yet behind the watermark.
//!
//! A queue in order of arrival; each arrival points at the one before it in the same group, so a group's
//! recent events are a walk along its chain. Written once an event, read only when something came out of
//! order. Memory is (events a second) × (allowed lateness) × 40 bytes.

use super::PaneIndex;
use crate::time::Micros;
use std::collections::VecDeque;

/// Marks the end of a chain.
pub(crate) const NO_ARRIVAL: u64 = u64::MAX;

/// One event of one group, or one value of it where values are counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) time: Micros,
    /// The arrival before it in the same group.
    pub(crate) before: u64,
    /// The value's fingerprint.
    pub(crate) value: u64,
    /// The last pane of that value before this arrival, 0 if it was new.
    pub(crate) value_was_last: PaneIndex,
}

#[derive(Debug, Default)]
pub(crate) struct Recent {
    queue: VecDeque<Arrival>,
    /// How many arrivals have left the queue: the number of its front.
    first: u64,
}

impl Recent {
    /// Appends an arrival and returns its number, the new end of its group's chain.
    #[inline]
    pub(crate) fn push(&mut self, arrival: Arrival) -> u64 {
        self.queue.push_back(arrival);
        self.first + self.queue.len() as u64 - 1
    }

    /// Lets go of arrivals behind the watermark.
    #[inline]
    pub(crate) fn trim(&mut self, watermark: Micros) {
        while self.queue.front().is_some_and(|arrival| arrival.time < watermark) {
            self.queue.pop_front();
            self.first += 1;
        }
    }

    /// Whether arrival `number` has left the queue.
    pub(crate) fn has_left(&self, number: u64) -> bool {
        number == NO_ARRIVAL || number < self.first
    }

    /// The chain that ends at `last`, newest arrival first.
    pub(crate) fn chain(&self, last: u64) -> impl Iterator<Item = &Arrival> {
        let mut at = last;
        std::iter::from_fn(move || {
            if at == NO_ARRIVAL {
                return None;
            }
            let arrival = self.queue.get(usize::try_from(at.checked_sub(self.first)?).ok()?)?;
            at = arrival.before;
            Some(arrival)
        })
    }

    /// Gives memory back after a rush.
    pub(crate) fn shrink(&mut self) {
        if self.queue.capacity() > 1024 && self.queue.len() * 4 < self.queue.capacity() {
            self.queue.shrink_to(self.queue.len() * 2);
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.queue.capacity() * size_of::<Arrival>()
    }
}
