//! Read access to a window's counts: at the newest pane, or at any pane that can still change. *Recent* events are
//! those in the lateness buffer.
//!
//! A view borrows the window's [`Counts`], the rows of states, the lateness buffer and, if there is one, the
//! aggregate. Reads at the newest pane are O(1); a range of panes costs time proportional to its panes and to the
//! group's recent events.

use super::aggregates::{Aggregates, LevelRun};
use super::chunked_vec::ChunkedVec;
use super::counts::{Counts, State};
use super::lateness_buffer::{ArrivalNumber, LatenessBuffer};
use super::panes::PaneIndex;
use super::step_function::StepFunction;
use crate::foundation::fingerprint::Fingerprint;
use crate::foundation::time::Micros;
use rustc_hash::FxHashMap;
use std::collections::{HashMap, HashSet};
use std::ops::{Deref, RangeInclusive};

/// Counts of one window in all groups of its stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WindowView<'a> {
    counts: &'a Counts,
    states: &'a ChunkedVec<State>,
    arrivals: &'a LatenessBuffer,
    /// Aggregate that the rules evaluate instead of the count.
    aggregates: Option<&'a Aggregates>,
}

impl<'a> WindowView<'a> {
    pub(crate) fn new(
        counts: &'a Counts,
        aggregates: Option<&'a Aggregates>,
        states: &'a ChunkedVec<State>,
        arrivals: &'a LatenessBuffer,
    ) -> Self {
        Self { counts, states, arrivals, aggregates }
    }

    pub(crate) fn aggregates(&self) -> Option<&'a Aggregates> {
        self.aggregates
    }
}

impl Deref for WindowView<'_> {
    type Target = Counts;

    fn deref(&self) -> &Counts {
        self.counts
    }
}

/// One value of a recent event.
struct Recent {
    value: Fingerprint,
    /// Pane of the event.
    pane: PaneIndex,
    time: Micros,
    previous_pane: PaneIndex,
}

impl WindowView<'_> {
    fn state(&self, slot: u32) -> Option<&State> {
        self.states.get(slot)?.get(self.counts.place)
    }

    /// Index of the group's newest pane.
    #[inline]
    pub(crate) fn head(&self, slot: u32) -> Option<PaneIndex> {
        self.state(slot)?.log.head()
    }

    /// Count in the newest pane's window.
    #[inline]
    pub(crate) fn total(&self, slot: u32) -> u64 {
        self.state(slot).map_or(0, |state| u64::from(state.log.total))
    }

    /// Level of the window that ends at the watermark; for counts, events after the watermark are included.
    pub(crate) fn level_now(&self, slot: u32) -> u64 {
        if let Some(aggregates) = self.aggregates {
            return aggregates.level(slot, self.watermark_pane());
        }
        self.state(slot).map_or(0, |state| {
            let within = state.log.from((self.watermark_pane() + 1).saturating_sub(self.span));
            within.map(|pane| u64::from(pane.weight(self.counts.values))).sum()
        })
    }

    /// Whether the group has events in the lateness buffer.
    pub(crate) fn is_recent(&self, slot: u32) -> bool {
        self.chain(slot).next().is_some()
    }

    /// The group's running counter of events.
    pub(crate) fn events(&self, slot: u32) -> u32 {
        self.state(slot).map_or(0, |state| state.events)
    }

    /// Whether no open window contains an event of the group.
    pub(crate) fn is_over(&self, slot: u32) -> bool {
        self.state(slot).is_none_or(|state| {
            state.log.head().is_none_or(|head| head.saturating_add(self.span) < self.watermark_pane())
                && !self.is_recent(slot)
        })
    }

    /// Numbers and times of the group's recent events, newest first.
    fn chain(&self, slot: u32) -> impl Iterator<Item = (ArrivalNumber, Micros)> {
        let first = self.states.get(slot).and_then(<[State]>::first);
        let chain = self.arrivals.chain(slot, first.map_or(self.arrivals.none(), |first| first.last_arrival));
        chain.take_while(|&(number, _)| self.counts.has_counted(number, self.arrivals.first()))
    }

    /// Values of the group's recent events, newest event first.
    fn recent(&self, slot: u32) -> impl Iterator<Item = Recent> {
        self.chain(slot).flat_map(move |(number, time)| {
            let pane = self.pane(time);
            let values = self.counts.recent.of(number, self.arrivals.first());
            values.map(move |seen| Recent {
                value: seen.value,
                pane,
                time,
                previous_pane: seen.previous_pane,
            })
        })
    }

    /// Number of events in the newest pane's window.
    pub(crate) fn events_in_window(&self, slot: u32) -> u32 {
        let state = self.state(slot);
        state.map_or(0, |state| state.log.window().map(|pane| u32::from(pane.events)).sum())
    }

    /// The group's running counter of events at the end of `pane`.
    pub(crate) fn events_through(&self, slot: u32, pane: PaneIndex) -> u32 {
        self.state(slot).map_or(0, |state| {
            let after = state.log.from(pane.saturating_add(1));
            state.events.wrapping_sub(after.map(|p| u32::from(p.events)).sum())
        })
    }

    /// Panes in `low..=high` with events.
    pub(crate) fn panes_with_events(&self, slot: u32, low: PaneIndex, high: PaneIndex) -> Vec<PaneIndex> {
        let within = self.state(slot).into_iter().flat_map(|state| state.log.from(low));
        let within = within.take_while(|pane| pane.index <= high).filter(|pane| pane.events > 0);
        let mut panes: Vec<PaneIndex> = within.map(|pane| pane.index).collect();
        panes.dedup();
        panes
    }

    /// Upper bound of the count of any pane in `low..=high`: the events in all their windows, times the largest
    /// number of values per event.
    pub(crate) fn at_most(&self, slot: u32, low: PaneIndex, high: PaneIndex) -> u64 {
        self.state(slot).map_or(0, |state| {
            let near =
                state.log.from((low + 1).saturating_sub(self.span)).take_while(|pane| pane.index <= high);
            near.map(|pane| u64::from(pane.events)).sum::<u64>() * self.most_values
        })
    }

    /// Last pane whose count is at least `need` if no further event arrives; `None` if the newest pane's count is
    /// smaller.
    pub(crate) fn stays_at(&self, slot: u32, need: u64) -> Option<PaneIndex> {
        let state = self.state(slot)?;
        let mut rest = u64::from(state.log.total);
        for pane in state.log.window() {
            rest -= u64::from(pane.weight(self.counts.values));
            if rest < need {
                return Some(pane.index + self.span - 1);
            }
        }
        None
    }

    /// For each value with recent events, the panes within `reach` in which it is known to have been seen, ascending:
    /// the panes of its recent events, and the panes that these events moved it from.
    fn recent_values(
        &self,
        slot: u32,
        reach: &RangeInclusive<PaneIndex>,
    ) -> FxHashMap<Fingerprint, Vec<PaneIndex>> {
        let mut seen: FxHashMap<Fingerprint, Vec<PaneIndex>> = FxHashMap::default();
        for recent in self.recent(slot) {
            for pane in [recent.pane, recent.previous_pane] {
                if pane != 0 && reach.contains(&pane) {
                    seen.entry(recent.value).or_default().push(pane);
                }
            }
        }
        for panes in seen.values_mut() {
            panes.sort_unstable();
            panes.dedup();
        }
        seen
    }

    /// Exact levels of panes `low..=high`.
    pub(crate) fn levels(&self, slot: u32, low: PaneIndex, high: PaneIndex) -> Vec<LevelRun> {
        let counts = || self.count_steps(slot, low, high).within(low, high).collect();
        self.aggregates.map_or_else(counts, |aggregates| aggregates.levels(slot, low, high))
    }

    /// Exact counts of panes `low..=high`.
    ///
    /// If values are counted, the pane log has each value only in its last pane. This is exact for a value without
    /// recent events: it counts from that pane on for one window length. A value with recent events was in other panes
    /// before. They are reconstructed from the lateness buffer: panes after the watermark from the recent events
    /// themselves, the last pane before the watermark from `previous_pane` of the first of these events.
    pub(crate) fn count_steps(&self, slot: u32, low: PaneIndex, high: PaneIndex) -> StepFunction {
        let mut steps = StepFunction::default();
        let Some(state) = self.state(slot) else { return steps };
        let span = self.span;
        let reach = low.saturating_sub(span - 1)..=high;
        if self.counts.values {
            for (value, panes) in self.recent_values(slot, &reach) {
                if let Some(last) = self.counts.pairs.last(value, slot).filter(|last| reach.contains(last)) {
                    // The loop over the pane log below adds the value in its last pane; cancel that.
                    steps.add(last, last.saturating_add(span), -1);
                }
                for (at, &pane) in panes.iter().enumerate() {
                    let end = pane.saturating_add(span);
                    steps.add(pane, panes.get(at + 1).map_or(end, |&next| next.min(end)), 1);
                }
            }
        }
        for pane in state.log.from(*reach.start()).take_while(|pane| pane.index <= high) {
            steps.add(pane.index, pane.index + span, i64::from(pane.weight(self.counts.values)));
        }
        steps
    }

    /// Time of the event, in order of event time, at which pane `first` reached the count `need`; `None` if that event
    /// is before the watermark, so that a time computed earlier is final.
    pub(crate) fn reached_at(&self, slot: u32, first: PaneIndex, need: u64) -> Option<Micros> {
        if let Some(aggregates) = self.aggregates {
            return aggregates.reached_at(slot, first, need);
        }
        let mut times: Vec<Micros> = if self.counts.values {
            self.new_values_of(slot, first)
        } else {
            self.chain(slot).map(|(_, time)| time).filter(|&time| self.pane(time) == first).collect()
        };
        // Entries of events before the watermark may be missing from the buffer. All of these events precede the
        // others, so their number is the count minus the number of the others.
        times.retain(|&time| time >= self.arrivals.complete_from());
        let (_, _, count) = self.count_steps(slot, first, first).within(first, first).next()?;
        let already = count.saturating_sub(times.len() as u64);
        let nth = need.checked_sub(already)?.checked_sub(1)?;
        times.sort_unstable();
        times.get(usize::try_from(nth).ok()?).copied()
    }

    /// Time of the first event in pane `first`, if the window's earlier panes alone reach the count `need`. This
    /// happens for baseline rules, which do not evaluate panes without events and change the threshold every day.
    /// Events that are no longer in the lateness buffer are ignored.
    pub(crate) fn reached_before(&self, slot: u32, first: PaneIndex, need: u64) -> Option<Micros> {
        let new = if self.counts.values {
            self.new_values_of(slot, first).len()
        } else {
            self.chain(slot).filter(|&(_, time)| self.pane(time) == first).count()
        };
        let (_, _, count) = self.count_steps(slot, first, first).within(first, first).next()?;
        let times = self.chain(slot).map(|(_, time)| time).filter(|&time| self.pane(time) == first);
        times.min().filter(|_| count >= need + new as u64)
    }

    /// Times of the values that pane `first` counts and the pane before did not.
    fn new_values_of(&self, slot: u32, first: PaneIndex) -> Vec<Micros> {
        let reach = first.saturating_sub(self.span - 1)..=first;
        let before = *reach.start()..first;
        let near = |recent: &Recent| reach.contains(&recent.previous_pane) || reach.contains(&recent.pane);
        let mut recents: Vec<Recent> = self.recent(slot).filter(near).collect();
        recents.reverse();
        let mut new_at: HashMap<Fingerprint, Micros> = HashMap::new();
        let mut counted_before: HashSet<Fingerprint> = HashSet::new();
        for Recent { value, pane, time, previous_pane } in recents {
            let seen_in_pane = new_at.contains_key(&value);
            let carried = before.contains(&previous_pane) || (previous_pane == first && !seen_in_pane);
            if carried || before.contains(&pane) {
                counted_before.insert(value);
            }
            if pane == first {
                let earliest = new_at.entry(value).or_insert(time);
                *earliest = time.min(*earliest);
            }
        }
        new_at
            .into_iter()
            .filter(|(value, _)| !counted_before.contains(value))
            .map(|(_, time)| time)
            .collect()
    }
}
