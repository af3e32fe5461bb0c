//! The counts of one sliding window in every group: how many, exactly, at every pane that can still change.
//!
//! Two ways in. *In order* (almost always): the event is the group's newest, everything is O(1). *Out of
//! order*: the event goes into its own pane, and whoever needs them reads the counts of the panes it touches
//! again, from the pane log and the group's recent arrivals.

use super::PaneIndex;
use super::pairs::PairTable;
use super::panes::{PaneLog, Part};
use super::peaks::Peaks;
use super::recent::{Arrival, ArrivalNumber, Recent};
use super::segments::Segments;
use super::slab::Slab;
use crate::prefetch::prefetch;
use crate::time::Micros;
use rustc_hash::FxHashMap;
use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

/// What is remembered of one group: a cache line, and a heap block if its window has more than four panes.
#[derive(Debug)]
#[repr(align(64))]
struct State {
    log: PaneLog,
    /// Largest event time.
    newest: Micros,
    /// The count in the head's window.
    total: u32,
    /// Matching events so far; wraps, only differences are used.
    events: u32,
    /// End of the chain of recent arrivals.
    last_arrival: ArrivalNumber,
}

impl Default for State {
    fn default() -> Self {
        Self { log: PaneLog::default(), newest: Micros::MIN, total: 0, events: 0, last_arrival: 0 }
    }
}

/// What counting an event came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Added {
    pub(crate) pane: PaneIndex,
    /// The count in the head's window.
    pub(crate) total: u64,
    /// Whether the group has no newer event.
    pub(crate) newest: bool,
    /// Whether nothing before the event's pane has changed, and nothing behind the watermark.
    pub(crate) in_order: bool,
    /// Whether the head was in another pane before.
    pub(crate) new_pane: bool,
}

/// The pane of the event at hand, kept because the next one is most often in the same: a division saved.
#[derive(Debug, Default)]
struct Here {
    from: Micros,
    until: Micros,
    pane: PaneIndex,
    slice: PaneIndex,
}

#[derive(Debug)]
pub(crate) struct Counts {
    /// Panes a window has.
    pub(crate) span: u32,
    pub(crate) resolution: Micros,
    /// Whether distinct values are counted rather than events.
    values: bool,
    /// The most values any event had, or 1.
    most_values: u64,
    states: Slab<State>,
    pairs: PairTable,
    recent: Recent,
    peaks: Peaks,
    here: Here,
    /// Heap bytes of all pane logs.
    log_bytes: usize,
    /// The watermark pane all bookkeeping has been done up to.
    settled: PaneIndex,
}

impl Counts {
    pub(crate) fn new(span: u32, resolution: Micros, values: bool) -> Self {
        Self {
            span,
            resolution,
            values,
            most_values: 1,
            states: Slab::default(),
            pairs: PairTable::default(),
            recent: Recent::default(),
            peaks: Peaks::default(),
            here: Here::default(),
            log_bytes: 0,
            settled: 0,
        }
    }

    // ---- time ----

    #[inline]
    pub(crate) fn pane(&self, time: Micros) -> PaneIndex {
        if (self.here.from..self.here.until).contains(&time) {
            return self.here.pane;
        }
        // Accepted times lie between 1970 and 2100 and a pane is at least a second: this fits.
        time.div_euclid(self.resolution).clamp(0, Micros::from(PaneIndex::MAX)) as PaneIndex
    }

    /// The pane of an event that is about to be counted.
    #[inline]
    fn move_to(&mut self, time: Micros) -> PaneIndex {
        if !(self.here.from..self.here.until).contains(&time) {
            let pane = self.pane(time);
            let from = self.start_of(pane);
            self.here = Here { from, until: from + self.resolution, pane, slice: self.slice(pane) };
        }
        self.here.pane
    }

    pub(crate) fn start_of(&self, pane: PaneIndex) -> Micros {
        Micros::from(pane) * self.resolution
    }

    fn slice(&self, pane: PaneIndex) -> PaneIndex {
        pane / self.span.div_ceil(8)
    }

    pub(crate) fn settled(&self) -> PaneIndex {
        self.settled
    }

    // ---- groups ----

    /// Makes a group's state ready, new or left by another.
    pub(crate) fn open(&mut self, slot: u32) {
        while self.states.len() <= slot as usize {
            self.states.push(State::default());
        }
        self.clear(slot);
    }

    /// Forgets a group.
    pub(crate) fn clear(&mut self, slot: u32) {
        let last_arrival = self.recent.none();
        if let Some(state) = self.states.get_mut(slot) {
            self.log_bytes -= state.log.heap_bytes();
            *state = State { last_arrival, ..State::default() };
        }
    }

    /// Whether no window can reach anything of a group any more.
    pub(crate) fn is_over(&self, slot: u32) -> bool {
        self.states.get(slot).is_none_or(|state| {
            state.log.head().is_none_or(|head| head.saturating_add(self.span) < self.settled)
                && self.recent.has_none_of(slot, state.last_arrival)
        })
    }

    /// Asks for what counting in a group will read first.
    #[inline]
    pub(crate) fn prefetch(&self, slot: u32, values: &[u64]) {
        self.states.get(slot).into_iter().for_each(prefetch);
        for &value in values {
            self.pairs.prefetch(value, slot);
        }
    }

    /// Asks for what counting will read next; the group's state should have come by now.
    #[inline]
    pub(crate) fn prefetch_panes(&self, slot: u32) {
        if let Some(state) = self.states.get(slot) {
            state.log.prefetch_ends();
        }
    }

    #[inline]
    pub(crate) fn head(&self, slot: u32) -> Option<PaneIndex> {
        self.states.get(slot)?.log.head()
    }

    /// The count in the head's window.
    #[inline]
    pub(crate) fn total(&self, slot: u32) -> u64 {
        self.states.get(slot).map_or(0, |state| u64::from(state.total))
    }

    /// The group's running counter of events.
    pub(crate) fn events(&self, slot: u32) -> u32 {
        self.states.get(slot).map_or(0, |state| state.events)
    }

    // ---- counting ----

    /// Counts an event in a group, unless its pane has left every window that is not final. Where the count falls
    /// from `floor` or above on the way, `fell` hears of the last pane that had the count before, of both counts and
    /// of the events so far.
    #[inline]
    pub(crate) fn add(
        &mut self,
        slot: u32,
        (time, watermark): (Micros, Micros),
        values: &[u64],
        floor: u64,
        mut fell: impl FnMut(PaneIndex, u64, u64, u32),
    ) -> Option<Added> {
        let pane = self.move_to(time);
        let late = time < watermark;
        let span = self.span;
        if late && pane.saturating_add(span) <= self.pane(watermark) {
            return None;
        }
        // A pane that left its last window at `settled` is still needed: that pane is judged only afterwards.
        let forget = self.settled.saturating_sub(span + 1);
        let state = self.states.get_mut(slot)?;
        let is_newest = time >= state.newest;
        state.newest = time.max(state.newest);
        let head = state.log.head();
        if let Some(head) = head.filter(|&head| pane < head) {
            let total = self.add_below(slot, (time, pane, head), values);
            return Some(Added { pane, total, newest: is_newest, in_order: false, new_pane: true });
        }
        let State { log, total, events, last_arrival, .. } = state;
        log.leave(pane, span, |left| {
            let before = u64::from(*total);
            *total -= u32::from(left.weight(self.values));
            if before >= floor {
                fell(left.index + span - 1, before, u64::from(*total), *events);
            }
        });
        *events = events.wrapping_add(1);
        let mut moved = 0;
        if self.values {
            self.most_values = self.most_values.max(values.len() as u64);
            for &value in values {
                let was_last = self.pairs.see(value, slot, pane).unwrap_or(0);
                if was_last < pane {
                    if was_last != 0 {
                        log.take_value(was_last);
                    }
                    moved += 1;
                    *total += u32::from(was_last == 0 || was_last + span <= pane);
                }
                let arrival = Arrival { time, value, before: *last_arrival, value_was_last: was_last, slot };
                *last_arrival = self.recent.push(arrival);
            }
        } else {
            *total += 1;
            let arrival = Arrival { time, value: 0, before: *last_arrival, value_was_last: 0, slot };
            *last_arrival = self.recent.push(arrival);
        }
        log.enter(pane, moved, forget, &mut self.log_bytes);
        let total = *total;
        self.peaks.see(self.here.slice, total);
        let new_pane = head != Some(pane);
        Some(Added { pane, total: u64::from(total), newest: is_newest, in_order: !late, new_pane })
    }

    /// Counts an event in a pane below its group's head; returns the count in the head's window.
    #[cold]
    fn add_below(
        &mut self,
        slot: u32,
        (time, pane, head): (Micros, PaneIndex, PaneIndex),
        values: &[u64],
    ) -> u64 {
        let (span, slice) = (self.span, self.slice(head));
        let Some(State { log, total, events, last_arrival, .. }) = self.states.get_mut(slot) else {
            return 0;
        };
        *events = events.wrapping_add(1);
        let inside = log.add(pane, span, Part::Event, &mut self.log_bytes);
        if self.values {
            self.most_values = self.most_values.max(values.len() as u64);
            for &value in values {
                let was_last = self.pairs.see(value, slot, pane);
                if was_last.is_none_or(|last| last < pane) {
                    if let Some(last) = was_last {
                        log.take_value(last);
                    }
                    log.add(pane, span, Part::Value, &mut self.log_bytes);
                    let counted = was_last.is_some_and(|last| last + span > head);
                    *total += u32::from(inside && !counted);
                }
                let (before, value_was_last) = (*last_arrival, was_last.unwrap_or(0));
                *last_arrival = self.recent.push(Arrival { time, value, before, value_was_last, slot });
            }
        } else {
            *total += u32::from(inside);
            let before = *last_arrival;
            *last_arrival = self.recent.push(Arrival { time, value: 0, before, value_was_last: 0, slot });
        }
        self.peaks.see(slice, *total);
        u64::from(*total)
    }

    // ---- reading ----

    /// Events in the head's window.
    pub(crate) fn events_in_window(&self, slot: u32) -> u32 {
        let state = self.states.get(slot);
        state.map_or(0, |state| state.log.window().iter().map(|pane| u32::from(pane.events)).sum())
    }

    /// The group's running counter of events as it stood at the end of `pane`.
    pub(crate) fn events_through(&self, slot: u32, pane: PaneIndex) -> u32 {
        self.states.get(slot).map_or(0, |state| {
            let after = state.log.all().iter().rev().take_while(|p| p.index > pane);
            state.events.wrapping_sub(after.map(|p| u32::from(p.events)).sum())
        })
    }

    /// No pane in `low..=high` can count more than this: the events in all their windows, or as many values as these
    /// can have.
    pub(crate) fn at_most(&self, slot: u32, low: PaneIndex, high: PaneIndex) -> u64 {
        self.states.get(slot).map_or(0, |state| {
            let panes = state.log.all();
            let from = panes.partition_point(|pane| pane.index + self.span <= low);
            let near = panes[from..].iter().take_while(|pane| pane.index <= high);
            near.map(|pane| u64::from(pane.events)).sum::<u64>() * self.most_values
        })
    }

    /// The last pane whose count is at least `need` if no more events come; `None` if the head's is not.
    pub(crate) fn stays_at(&self, slot: u32, need: u64) -> Option<PaneIndex> {
        let state = self.states.get(slot)?;
        let mut rest = u64::from(state.total);
        for pane in state.log.window() {
            rest -= u64::from(pane.weight(self.values));
            if rest < need {
                return Some(pane.index + self.span - 1);
            }
        }
        None
    }

    /// By value, for those with recent arrivals: the panes within `reach` it is known to have been seen in, ascending.
    fn recent_values(
        &self,
        slot: u32,
        state: &State,
        reach: RangeInclusive<PaneIndex>,
    ) -> FxHashMap<u64, Vec<PaneIndex>> {
        let mut seen: FxHashMap<u64, Vec<PaneIndex>> = FxHashMap::default();
        for arrival in self.recent.chain(slot, state.last_arrival) {
            for pane in [self.pane(arrival.time), arrival.value_was_last] {
                if pane != 0 && reach.contains(&pane) {
                    seen.entry(arrival.value).or_default().push(pane);
                }
            }
        }
        for panes in seen.values_mut() {
            panes.sort_unstable();
            panes.dedup();
        }
        seen
    }

    /// The exact counts of panes `low..=high`.
    ///
    /// Where values are counted, one without recent arrivals counts from its last pane for a window's
    /// length. One with recent arrivals may have moved on since: its panes are all known, those not behind
    /// the watermark from the arrivals, the last before them from what the first arrival displaced.
    pub(crate) fn segments(&self, slot: u32, low: PaneIndex, high: PaneIndex) -> Segments {
        let mut segments = Segments::default();
        let Some(state) = self.states.get(slot) else { return segments };
        let span = self.span;
        let reach = low.saturating_sub(span - 1)..=high;
        if self.values {
            for (value, panes) in self.recent_values(slot, state, reach.clone()) {
                if let Some(last) = self.pairs.last(value, slot).filter(|last| reach.contains(last)) {
                    // The log counts it too, where it was last; here it is taken out again.
                    segments.add(last, last.saturating_add(span), -1);
                }
                for (at, &pane) in panes.iter().enumerate() {
                    let end = pane.saturating_add(span);
                    segments.add(pane, panes.get(at + 1).map_or(end, |&next| next.min(end)), 1);
                }
            }
        }
        let panes = state.log.all();
        let from = panes.partition_point(|pane| pane.index < *reach.start());
        for pane in panes[from..].iter().take_while(|pane| pane.index <= high) {
            segments.add(pane.index, pane.index + span, i64::from(pane.weight(self.values)));
        }
        segments
    }

    /// The time at which, in order of time, the count reached `need` in pane `first`; `None` where that lies
    /// behind the watermark and so is settled.
    pub(crate) fn reached_at(&self, slot: u32, first: PaneIndex, need: u64) -> Option<Micros> {
        let state = self.states.get(slot)?;
        let mut times: Vec<Micros> = Vec::new();
        let arrivals = self.recent.chain(slot, state.last_arrival);
        if self.values {
            let reach = first.saturating_sub(self.span - 1)..=first;
            let near = |arrival: &&Arrival| {
                reach.contains(&arrival.value_was_last) || reach.contains(&self.pane(arrival.time))
            };
            times.extend(self.new_values_of(first, arrivals.filter(near).collect()));
        } else {
            times.extend(arrivals.map(|arrival| arrival.time).filter(|&time| self.pane(time) == first));
        }
        // Of arrivals behind the watermark some may have been let go of, but all of them came before the others.
        times.retain(|&time| time >= self.recent.complete_from());
        let (_, _, count) = self.segments(slot, first, first).within(first, first).next()?;
        let already = count.saturating_sub(times.len() as u64);
        let nth = need.checked_sub(already)?.checked_sub(1)?;
        times.sort_unstable();
        times.get(usize::try_from(nth).ok()?).copied()
    }

    /// When each value came that pane `first` counts and the pane before it did not; `arrivals` newest first.
    fn new_values_of(&self, first: PaneIndex, mut arrivals: Vec<&Arrival>) -> Vec<Micros> {
        let before = first.saturating_sub(self.span - 1)..first;
        arrivals.reverse();
        let mut new_at: HashMap<u64, Micros> = HashMap::new();
        let mut counted_before: HashSet<u64> = HashSet::new();
        for arrival in arrivals {
            let pane = self.pane(arrival.time);
            let was = arrival.value_was_last;
            let seen_in_pane = new_at.contains_key(&arrival.value);
            let carried = before.contains(&was) || (was == first && !seen_in_pane);
            if carried || before.contains(&pane) {
                counted_before.insert(arrival.value);
            }
            if pane == first {
                let earliest = new_at.entry(arrival.value).or_insert(arrival.time);
                *earliest = (*earliest).min(arrival.time);
            }
        }
        new_at
            .into_iter()
            .filter(|(value, _)| !counted_before.contains(value))
            .map(|(_, time)| time)
            .collect()
    }

    // ---- bookkeeping ----

    /// The watermark has come to `watermark`. Returns how much of a timespan it has moved on, 0 to 1.
    pub(crate) fn settle(&mut self, watermark: Micros) -> f64 {
        self.recent.trim(watermark);
        let pane = self.pane(watermark);
        if pane <= self.settled || watermark == Micros::MAX {
            return 0.0; // Nothing to sweep, or nothing worth it: this is the end.
        }
        let share = (f64::from(pane - self.settled) / f64::from(self.span)).min(1.0);
        self.settled = pane;
        self.pairs.sweep(share, pane.saturating_sub(self.span) + 1);
        share
    }

    /// The largest count any group reached within the last timespan before `newest`.
    pub(crate) fn largest(&self, newest: Micros) -> u32 {
        self.peaks.largest(self.slice(self.pane(newest)))
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.states.heap_bytes() + self.log_bytes + self.pairs.heap_bytes() + self.recent.heap_bytes()
    }
}
