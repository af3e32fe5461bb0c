//! Forgetting groups and values of a keyed stream before their time ([`crate::shedding`]).

use super::{KeyedStream, Window};
use crate::detect::Detector;
use crate::shedding::{Ages, Forgotten};
use crate::time::Micros;
use crate::window::{Arrivals, Rows, Series, State};

impl KeyedStream {
    /// Bytes in use: all but those that wait for another group.
    pub(crate) fn used_bytes(&self) -> usize {
        self.heap_bytes().saturating_sub(self.groups.free() * self.row_bytes())
    }

    /// Bytes that a slot takes with or without a group.
    fn row_bytes(&self) -> usize {
        let series = self.windows.iter().filter_map(|window| window.series.as_ref());
        self.states.row_bytes() + series.map(Series::row_bytes).sum::<usize>()
    }

    /// Adds up by age what [`Self::forget_before`] would free.
    pub(crate) fn ages(&self, ages: &mut Ages) {
        if let Some(sieve) = &self.sieve {
            sieve.ages(ages);
        }
        let of_index = self.groups.index_bytes() / self.groups.len().max(1);
        for slot in 0..self.groups.slots() {
            let Some(newest) = self.last_seen(slot).filter(|_| self.is_dispensable(slot)) else { continue };
            let panes = self.windows.iter().map(|window| window.counts.last_of_pane(newest));
            let states = self.states.get(slot).unwrap_or_default();
            let logs: usize = states.iter().map(State::heap_bytes).sum();
            let series = self.windows.iter().filter_map(|window| window.series.as_ref());
            let logs = logs + series.map(|series| series.bytes_of(slot)).sum::<usize>();
            ages.add(panes.max().unwrap_or(newest), of_index + self.row_bytes() + logs);
        }
        for window in self.windows.iter().filter(|window| !window.judging) {
            window.counts.ages(ages);
        }
    }

    /// Forgets what was last seen before `time`, which is not past the watermark, and adds it up by rule.
    pub(crate) fn forget_before(&mut self, time: Micros, forgotten: &mut [Forgotten]) {
        if let Some(sieve) = &mut self.sieve {
            sieve.forget_before(time);
        }
        let is_old = |slot| {
            self.last_seen(slot).is_some_and(|newest| {
                newest < time
                    // Its values must all go with it: another group will have its slot.
                    && self.windows.iter().all(|w| w.counts.pane(newest) < w.counts.pane(time))
                    && self.is_dispensable(slot)
            })
        };
        let old: Vec<bool> = (0..self.groups.slots()).map(is_old).collect();
        for window in self.windows.iter_mut().filter(|window| !window.judging) {
            let values = window.counts.forget_before(time);
            window.add_to(forgotten, |forgotten| forgotten.values += values);
        }
        for slot in (0..self.groups.slots()).filter(|&slot| old[slot as usize]) {
            let states = self.states.get_mut(slot).unwrap_or_default();
            for (window, state) in self.windows.iter_mut().zip(states) {
                window.clear(slot, state);
                window.detectors.iter_mut().for_each(|detector| detector.forget(slot));
            }
        }
        let groups = self.groups.forget(|slot| old[slot as usize]);
        for window in &self.windows {
            window.add_to(forgotten, |forgotten| forgotten.groups += groups);
        }
    }

    /// When a group was last seen; `None` for a slot without one.
    fn last_seen(&self, slot: u32) -> Option<Micros> {
        let states = self.states.get(slot)?;
        let is_taken = states.iter().any(|state| !state.is_empty());
        states.first().filter(|_| is_taken).map(|first| first.newest)
    }

    fn is_dispensable(&self, slot: u32) -> bool {
        self.windows.iter().all(|window| window.is_dispensable(slot, &self.states, &self.arrivals))
    }
}

impl Window {
    /// Whether no rule is close to firing for a group, or judges it for having few events.
    fn is_dispensable(&self, slot: u32, states: &Rows<State>, arrivals: &Arrivals) -> bool {
        let counts = self.reading(states, arrivals);
        let now = counts.level_now(slot);
        let is_needed =
            |detector: &Detector| detector.has(slot) || detector.looks_for_little() || detector.is_close(now);
        !counts.is_recent(slot) && !self.detectors.iter().any(is_needed)
    }

    fn add_to(&self, forgotten: &mut [Forgotten], mut add: impl FnMut(&mut Forgotten)) {
        for detector in &self.detectors {
            forgotten.get_mut(detector.rule).into_iter().for_each(&mut add);
        }
    }
}
