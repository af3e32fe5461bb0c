//! Eviction of idle groups and values from a keyed stream, before their windows end
//! ([`crate::foundation::eviction`]).

use super::{KeyedStream, Window};
use crate::detect::Detector;
use crate::foundation::eviction::{AgeHistogram, EvictedCounts};
use crate::foundation::time::Micros;
use crate::window::{Aggregates, ChunkedVec, LatenessBuffer, State};

impl KeyedStream {
    /// Memory in use, in bytes, without the slots that are free for new groups.
    pub(crate) fn used_bytes(&self) -> usize {
        self.heap_bytes().saturating_sub(self.groups.free() * self.row_bytes())
    }

    /// Bytes of one slot, whether a group uses it or not.
    fn row_bytes(&self) -> usize {
        let aggregates = self.windows.iter().filter_map(|window| window.aggregates.as_ref());
        self.states.row_bytes() + aggregates.map(Aggregates::row_bytes).sum::<usize>()
    }

    /// Adds the memory that [`Self::evict_before`] could free to a histogram by age.
    pub(crate) fn add_ages(&self, ages: &mut AgeHistogram) {
        if let Some(novelty) = &self.novelty {
            novelty.add_ages(ages);
        }
        let of_index = self.groups.index_bytes() / self.groups.len().max(1);
        for slot in 0..self.groups.slots() {
            let Some(newest) = self.last_seen(slot).filter(|_| self.is_dispensable(slot)) else { continue };
            let panes = self.windows.iter().map(|window| window.counts.last_of_pane(newest));
            let states = self.states.get(slot).unwrap_or_default();
            let logs: usize = states.iter().map(State::heap_bytes).sum();
            let aggregates = self.windows.iter().filter_map(|window| window.aggregates.as_ref());
            let logs = logs + aggregates.map(|aggregates| aggregates.bytes_of(slot)).sum::<usize>();
            ages.add(panes.max().unwrap_or(newest), of_index + self.row_bytes() + logs);
        }
        for window in self.windows.iter().filter(|window| !window.has_deferred) {
            window.counts.add_ages(ages);
        }
    }

    /// Evicts groups and values last seen before `time`, and adds their numbers to `evicted`, by rule. `time` must not
    /// be later than the watermark.
    pub(crate) fn evict_before(&mut self, time: Micros, evicted: &mut [EvictedCounts]) {
        if let Some(novelty) = &mut self.novelty {
            novelty.evict_before(time);
        }
        let is_old = |slot| {
            self.last_seen(slot).is_some_and(|newest| {
                newest < time
                    // A pane before that of `time` in every window, so that the values of the group are evicted, too:
                    // they are stored under its slot, which a new group will reuse.
                    && self.windows.iter().all(|w| w.counts.pane(newest) < w.counts.pane(time))
                    && self.is_dispensable(slot)
            })
        };
        let old: Vec<bool> = (0..self.groups.slots()).map(is_old).collect();
        for window in self.windows.iter_mut().filter(|window| !window.has_deferred) {
            let values = window.counts.evict_before(time);
            window.add_to(evicted, |evicted| evicted.values += values);
        }
        for slot in (0..self.groups.slots()).filter(|&slot| old[slot as usize]) {
            let states = self.states.get_mut(slot).unwrap_or_default();
            for (window, state) in self.windows.iter_mut().zip(states) {
                window.clear(slot, state);
                window.detectors.iter_mut().for_each(|detector| detector.remove_group(slot));
            }
        }
        let groups = self.groups.remove(|slot| old[slot as usize]);
        for window in &self.windows {
            window.add_to(evicted, |evicted| evicted.groups += groups);
        }
    }

    /// Event time of a group's newest event; `None` for a free slot.
    fn last_seen(&self, slot: u32) -> Option<Micros> {
        let states = self.states.get(slot)?;
        let is_taken = states.iter().any(|state| !state.is_empty());
        states.first().filter(|_| is_taken).map(|first| first.newest)
    }

    fn is_dispensable(&self, slot: u32) -> bool {
        self.windows.iter().all(|window| window.is_dispensable(slot, &self.states, &self.recent))
    }
}

impl Window {
    /// Whether the group can be evicted: it has no open finding, is at most at half of every threshold, no rule fires
    /// on low counts, and none of its events can still be reordered.
    fn is_dispensable(&self, slot: u32, states: &ChunkedVec<State>, recent: &LatenessBuffer) -> bool {
        let counts = self.view(states, recent);
        let now = counts.level_now(slot);
        let is_needed = |detector: &Detector| {
            detector.has_finding(slot) || detector.fires_on_low_counts() || detector.is_near_threshold(now)
        };
        !counts.is_recent(slot) && !self.detectors.iter().any(is_needed)
    }

    fn add_to(&self, evicted: &mut [EvictedCounts], mut add: impl FnMut(&mut EvictedCounts)) {
        for detector in &self.detectors {
            evicted.get_mut(detector.rule).into_iter().for_each(&mut add);
        }
    }
}
