//! Reading counts again: what events out of order and conditions judged at the watermark need.

use super::Correlation;
use super::group::Group;
use crate::finding::{Finding, Opening};
use crate::time::Micros;
use crate::window::{Arrival, PaneIndex, Segments};
use smallvec::SmallVec;
use std::collections::{HashMap, HashSet};

impl Correlation {
    /// Reads the counts of panes `low..=high` again and brings the findings up to them.
    pub(super) fn judge(
        &mut self,
        slot: u32,
        low: PaneIndex,
        high: PaneIndex,
        names: &[String],
        settle_opening: impl Fn(&Finding) -> bool,
    ) {
        let Some(segments) = self.segments(slot, low, high) else { return };
        let steps: Vec<_> = segments.within(low, high).filter(|&(_, _, count)| self.meets(count)).collect();
        for (first, last, count) in steps {
            let key = self.cover(slot, first, last, count, names);
            if self.findings.get(key).is_some_and(&settle_opening) {
                self.settle_opening(key);
            }
        }
    }

    /// Works out a finding's opening time anew, where it is not settled yet.
    pub(super) fn settle_opening(&mut self, key: u32) {
        let time = self.findings.get(key).and_then(|f| self.opening_time(f.slot, f.first));
        if let (Some(time), Some(finding)) = (time, self.findings.get_mut(key)) {
            finding.opened_at = time;
        }
    }

    fn meets(&self, count: u64) -> bool {
        if self.judging.is_some() { self.holds.test(count) } else { count >= self.need }
    }

    /// Makes panes `first..=last` part of a finding: of one they join, or of a new one.
    fn cover(&mut self, slot: u32, first: PaneIndex, last: PaneIndex, count: u64, names: &[String]) -> u32 {
        let (head, total) = self
            .groups
            .get(slot)
            .map_or((last, 0), |group| (group.log.head().unwrap_or(last), u64::from(group.total)));
        let at_head = last >= head && total >= self.need;
        let joined: SmallVec<[u32; 2]> = (self.findings.of(slot).into_iter())
            .filter(|&key| self.findings.get(key).is_some_and(|f| f.joins(first, last, head, self.keep)))
            .collect();
        let Some((&into, swallowed)) = joined.split_first() else {
            return self.open(Opening {
                slot,
                group: names.to_vec(),
                first,
                last,
                holding: at_head,
                events_before: self.events_through(slot, first.saturating_sub(self.span)),
                events_through: self.events_through(slot, last),
                peak: count,
                opened_at: self.opened_in(slot, first),
            });
        };
        let (mut end, mut holding, mut peak) = (last, at_head, count);
        for &key in swallowed {
            if let Some(finding) = self.findings.get(key) {
                end = end.max(finding.last);
                holding |= finding.holding;
                peak = peak.max(finding.peak);
            }
            self.findings.merge(key, into);
        }
        let (known_first, known_last) =
            self.findings.get(into).map_or((first, last), |finding| (finding.first, finding.last));
        let before =
            (first < known_first).then(|| self.events_through(slot, first.saturating_sub(self.span)));
        let through = (end > known_last).then(|| self.events_through(slot, end));
        if let Some(finding) = self.findings.get_mut(into) {
            finding.first = finding.first.min(first);
            finding.last = finding.last.max(end);
            finding.holding |= holding;
            finding.peak = finding.peak.max(peak);
            finding.events_before = before.unwrap_or(finding.events_before);
            finding.events_through = through.unwrap_or(finding.events_through);
        }
        self.findings.mark(into);
        into
    }

    /// The group's running event counter as it stood at the end of `pane`.
    fn events_through(&self, slot: u32, pane: PaneIndex) -> u32 {
        self.groups.get(slot).map_or(0, |group| {
            let after: u32 =
                group.log.all().iter().rev().take_while(|p| p.index > pane).map(|p| p.events).sum();
            group.events.wrapping_sub(after)
        })
    }

    /// The group's recent arrivals, by value: the panes each value is known to have been seen in, ascending.
    fn recent_values(&self, group: &Group) -> HashMap<u64, Vec<PaneIndex>> {
        let mut seen: HashMap<u64, Vec<PaneIndex>> = HashMap::new();
        for arrival in self.recent.chain(group.last_arrival) {
            let panes = seen.entry(arrival.value).or_default();
            panes.push(self.pane(arrival.time));
            if arrival.value_was_last != 0 {
                panes.push(arrival.value_was_last);
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
    pub(super) fn segments(&self, slot: u32, low: PaneIndex, high: PaneIndex) -> Option<Segments> {
        let group = self.groups.get(slot)?;
        let span = self.span;
        let mut segments = Segments::default();
        let moved = if self.distinct.is_some() { self.recent_values(group) } else { HashMap::new() };
        let mut moved_last: HashMap<PaneIndex, u32> = HashMap::new();
        for panes in moved.values() {
            if let Some(&last) = panes.last() {
                *moved_last.entry(last).or_default() += 1;
            }
            for (at, &pane) in panes.iter().enumerate() {
                let end = pane.saturating_add(span);
                segments.add(pane, panes.get(at + 1).map_or(end, |&next| next.min(end)), 1);
            }
        }
        for pane in group.log.all().iter().filter(|p| p.index <= high && p.index + span > low) {
            let weight = if self.distinct.is_some() {
                pane.last_values.saturating_sub(moved_last.get(&pane.index).copied().unwrap_or(0))
            } else {
                pane.events
            };
            segments.add(pane.index, pane.index + span, i64::from(weight));
        }
        Some(segments)
    }

    /// When a run that starts with pane `first` opened. Where panes are judged whole, that is the pane's start.
    fn opened_in(&self, slot: u32, first: PaneIndex) -> Micros {
        let time = if self.judging.is_none() { self.opening_time(slot, first) } else { None };
        time.unwrap_or_else(|| self.start_of(first))
    }

    /// The time at which, in order of time, the count reached what is needed in pane `first`; `None` where
    /// that lies behind the watermark and so is settled.
    pub(super) fn opening_time(&self, slot: u32, first: PaneIndex) -> Option<Micros> {
        let group = self.groups.get(slot)?;
        let mut times: Vec<Micros> = Vec::new();
        if self.distinct.is_none() {
            times.extend(
                (self.recent.chain(group.last_arrival).map(|arrival| arrival.time))
                    .filter(|&time| self.pane(time) == first),
            );
        } else {
            let window_start = first.saturating_sub(self.span - 1);
            let mut arrivals: Vec<&Arrival> = self.recent.chain(group.last_arrival).collect();
            arrivals.reverse();
            let mut new_at: HashMap<u64, Micros> = HashMap::new();
            let mut counted_before: HashSet<u64> = HashSet::new();
            for arrival in arrivals {
                let pane = self.pane(arrival.time);
                let was = arrival.value_was_last;
                let seen_in_pane = new_at.contains_key(&arrival.value);
                let carried = (window_start..first).contains(&was) || (was == first && !seen_in_pane);
                if carried || (window_start..first).contains(&pane) {
                    counted_before.insert(arrival.value);
                }
                if pane == first {
                    let earliest = new_at.entry(arrival.value).or_insert(arrival.time);
                    *earliest = (*earliest).min(arrival.time);
                }
            }
            times.extend(new_at.iter().filter(|(v, _)| !counted_before.contains(v)).map(|(_, &time)| time));
        }
        let (_, _, count) = self.segments(slot, first, first)?.within(first, first).next()?;
        let already = count.saturating_sub(times.len() as u64);
        let nth = self.need.checked_sub(already)?.checked_sub(1)?;
        times.sort_unstable();
        times.get(usize::try_from(nth).ok()?).copied()
    }
}
