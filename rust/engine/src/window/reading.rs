//! Reading counts: what decisions need to know of a group's window, at its head or at any pane that can still change.

use super::PaneIndex;
use super::counts::{Counts, State};
use super::recent::{ArrivalNumber, Arrivals};
use super::rows::Rows;
use super::segments::Segments;
use super::series::{Series, Stretch};
use crate::key::Fingerprint;
use crate::time::Micros;
use rustc_hash::FxHashMap;
use std::collections::{HashMap, HashSet};
use std::ops::{Deref, RangeInclusive};

/// One window's counts in all groups of its stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading<'a> {
    counts: &'a Counts,
    states: &'a Rows<State>,
    arrivals: &'a Arrivals,
    /// What is held against conditions, where that is not the count.
    series: Option<&'a Series>,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(
        counts: &'a Counts,
        series: Option<&'a Series>,
        states: &'a Rows<State>,
        arrivals: &'a Arrivals,
    ) -> Self {
        Self { counts, states, arrivals, series }
    }

    pub(crate) fn series(&self) -> Option<&'a Series> {
        self.series
    }
}

impl Deref for Reading<'_> {
    type Target = Counts;

    fn deref(&self) -> &Counts {
        self.counts
    }
}

/// A value of a recent arrival.
struct Recent {
    value: Fingerprint,
    /// The arrival's pane.
    pane: PaneIndex,
    time: Micros,
    was_last: PaneIndex,
}

impl Reading<'_> {
    fn state(&self, slot: u32) -> Option<&State> {
        self.states.get(slot)?.get(self.counts.place)
    }

    /// The newest pane of a group.
    #[inline]
    pub(crate) fn head(&self, slot: u32) -> Option<PaneIndex> {
        self.state(slot)?.log.head()
    }

    /// The count in the head's window.
    #[inline]
    pub(crate) fn total(&self, slot: u32) -> u64 {
        self.state(slot).map_or(0, |state| u64::from(state.log.total))
    }

    /// The level of the window that ends at the watermark; of a count, that and what has come since.
    pub(crate) fn level_now(&self, slot: u32) -> u64 {
        if let Some(series) = self.series {
            return series.level(slot, self.settled());
        }
        self.state(slot).map_or(0, |state| {
            let within = state.log.from((self.settled() + 1).saturating_sub(self.span));
            within.map(|pane| u64::from(pane.weight(self.counts.values))).sum()
        })
    }

    /// Whether some of a group's arrivals could still change their order.
    pub(crate) fn is_recent(&self, slot: u32) -> bool {
        self.chain(slot).next().is_some()
    }

    /// The group's running counter of events.
    pub(crate) fn events(&self, slot: u32) -> u32 {
        self.state(slot).map_or(0, |state| state.events)
    }

    /// Whether no window can reach anything of a group any more.
    pub(crate) fn is_over(&self, slot: u32) -> bool {
        self.state(slot).is_none_or(|state| {
            state.log.head().is_none_or(|head| head.saturating_add(self.span) < self.settled())
                && !self.is_recent(slot)
        })
    }

    /// The numbers and times of a group's recent arrivals, newest first.
    fn chain(&self, slot: u32) -> impl Iterator<Item = (ArrivalNumber, Micros)> {
        let first = self.states.get(slot).and_then(<[State]>::first);
        let chain = self.arrivals.chain(slot, first.map_or(self.arrivals.none(), |first| first.last_arrival));
        chain.take_while(|&(number, _)| self.counts.has_counted(number, self.arrivals.first()))
    }

    /// The values of a group's recent arrivals, newest arrival first.
    fn recent(&self, slot: u32) -> impl Iterator<Item = Recent> {
        self.chain(slot).flat_map(move |(number, time)| {
            let pane = self.pane(time);
            let values = self.counts.recent.of(number, self.arrivals.first());
            values.map(move |seen| Recent { value: seen.value, pane, time, was_last: seen.was_last })
        })
    }

    /// Events in the head's window.
    pub(crate) fn events_in_window(&self, slot: u32) -> u32 {
        let state = self.state(slot);
        state.map_or(0, |state| state.log.window().map(|pane| u32::from(pane.events)).sum())
    }

    /// The group's running counter of events as it stood at the end of `pane`.
    pub(crate) fn events_through(&self, slot: u32, pane: PaneIndex) -> u32 {
        self.state(slot).map_or(0, |state| {
            let after = state.log.from(pane.saturating_add(1));
            state.events.wrapping_sub(after.map(|p| u32::from(p.events)).sum())
        })
    }

    /// Panes in `low..=high` that have events.
    pub(crate) fn panes_with_events(&self, slot: u32, low: PaneIndex, high: PaneIndex) -> Vec<PaneIndex> {
        let within = self.state(slot).into_iter().flat_map(|state| state.log.from(low));
        let within = within.take_while(|pane| pane.index <= high).filter(|pane| pane.events > 0);
        let mut panes: Vec<PaneIndex> = within.map(|pane| pane.index).collect();
        panes.dedup();
        panes
    }

    /// No pane in `low..=high` can count more than this: the events in all their windows, or as many values as these
    /// can have.
    pub(crate) fn at_most(&self, slot: u32, low: PaneIndex, high: PaneIndex) -> u64 {
        self.state(slot).map_or(0, |state| {
            let near =
                state.log.from((low + 1).saturating_sub(self.span)).take_while(|pane| pane.index <= high);
            near.map(|pane| u64::from(pane.events)).sum::<u64>() * self.most_values
        })
    }

    /// The last pane whose count is at least `need` if no more events come; `None` if the head's is not.
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

    /// By value, for those with recent arrivals: the panes within `reach` it is known to have been seen in, ascending.
    fn recent_values(
        &self,
        slot: u32,
        reach: &RangeInclusive<PaneIndex>,
    ) -> FxHashMap<Fingerprint, Vec<PaneIndex>> {
        let mut seen: FxHashMap<Fingerprint, Vec<PaneIndex>> = FxHashMap::default();
        for recent in self.recent(slot) {
            for pane in [recent.pane, recent.was_last] {
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

    /// The exact levels of panes `low..=high`.
    pub(crate) fn levels(&self, slot: u32, low: PaneIndex, high: PaneIndex) -> Vec<Stretch> {
        let counts = || self.segments(slot, low, high).within(low, high).collect();
        self.series.map_or_else(counts, |series| series.levels(slot, low, high))
    }

    /// The exact counts of panes `low..=high`.
    ///
    /// Where values are counted, one without recent arrivals counts from its last pane for a window's
    /// length. One with recent arrivals may have moved on since: its panes are all known, those not behind
    /// the watermark from the arrivals, the last before them from what the first arrival displaced.
    pub(crate) fn segments(&self, slot: u32, low: PaneIndex, high: PaneIndex) -> Segments {
        let mut segments = Segments::default();
        let Some(state) = self.state(slot) else { return segments };
        let span = self.span;
        let reach = low.saturating_sub(span - 1)..=high;
        if self.counts.values {
            for (value, panes) in self.recent_values(slot, &reach) {
                if let Some(last) = self.counts.pairs.last(value, slot).filter(|last| reach.contains(last)) {
                    // The log counts it too, where it was last; here it is taken out again.
                    segments.add(last, last.saturating_add(span), -1);
                }
                for (at, &pane) in panes.iter().enumerate() {
                    let end = pane.saturating_add(span);
                    segments.add(pane, panes.get(at + 1).map_or(end, |&next| next.min(end)), 1);
                }
            }
        }
        for pane in state.log.from(*reach.start()).take_while(|pane| pane.index <= high) {
            segments.add(pane.index, pane.index + span, i64::from(pane.weight(self.counts.values)));
        }
        segments
    }

    /// The time at which, in order of time, the count reached `need` in pane `first`; `None` where that lies
    /// behind the watermark and so is settled.
    pub(crate) fn reached_at(&self, slot: u32, first: PaneIndex, need: u64) -> Option<Micros> {
        if let Some(series) = self.series {
            return series.reached_at(slot, first, need);
        }
        let mut times: Vec<Micros> = if self.counts.values {
            self.new_values_of(slot, first)
        } else {
            self.chain(slot).map(|(_, time)| time).filter(|&time| self.pane(time) == first).collect()
        };
        // Of arrivals behind the watermark some may have been let go of, but all of them came before the others.
        times.retain(|&time| time >= self.arrivals.complete_from());
        let (_, _, count) = self.segments(slot, first, first).within(first, first).next()?;
        let already = count.saturating_sub(times.len() as u64);
        let nth = need.checked_sub(already)?.checked_sub(1)?;
        times.sort_unstable();
        times.get(usize::try_from(nth).ok()?).copied()
    }

    /// When, in order of time, the first event came in pane `first`, if it is known that the count was `need` before; where
    /// that lies behind the watermark, the first since.
    pub(crate) fn reached_before(&self, slot: u32, first: PaneIndex, need: u64) -> Option<Micros> {
        let new = if self.counts.values {
            self.new_values_of(slot, first).len()
        } else {
            self.chain(slot).filter(|&(_, time)| self.pane(time) == first).count()
        };
        let (_, _, count) = self.segments(slot, first, first).within(first, first).next()?;
        let times = self.chain(slot).map(|(_, time)| time).filter(|&time| self.pane(time) == first);
        times.min().filter(|_| count >= need + new as u64)
    }

    /// When each value came that pane `first` counts and the pane before it did not.
    fn new_values_of(&self, slot: u32, first: PaneIndex) -> Vec<Micros> {
        let reach = first.saturating_sub(self.span - 1)..=first;
        let before = *reach.start()..first;
        let near = |recent: &Recent| reach.contains(&recent.was_last) || reach.contains(&recent.pane);
        let mut recents: Vec<Recent> = self.recent(slot).filter(near).collect();
        recents.reverse();
        let mut new_at: HashMap<Fingerprint, Micros> = HashMap::new();
        let mut counted_before: HashSet<Fingerprint> = HashSet::new();
        for Recent { value, pane, time, was_last } in recents {
            let seen_in_pane = new_at.contains_key(&value);
            let carried = before.contains(&was_last) || (was_last == first && !seen_in_pane);
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
