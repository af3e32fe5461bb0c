//! One rule's counting: groups, their panes, and the runs of panes in which the condition holds.
//!
//! Two ways in. *In order* (almost always): the event is the group's newest, everything is O(1). *Out of
//! order*: the event goes into its own pane and the counts of the panes it touches are read again, from the
//! pane log and the group's recent arrivals. Since more events only raise a count, the panes that hold can
//! only grow, so events may come in any order within the allowed lateness and give the sorted stream's
//! findings. Conditions that more events can end (`lt`, `eq`, …) are judged once, when the watermark passes.

use crate::field::{Event, FieldId, FieldTable, Scalar};
use crate::finding::{Change, ChangeKind, Finding, FindingSet, Opening};
use crate::key::{Fingerprint, Keyring};
use crate::matcher::Matcher;
use crate::plan::{Holds, PlanError, RulePlan};
use crate::time::Micros;
use crate::window::{Arrival, NO_ARRIVAL, PairTable, PaneIndex, PaneLog, Recent, Segments};
use hashbrown::HashTable;
use smallvec::SmallVec;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Everything remembered of one group.
#[derive(Debug)]
struct Group {
    print: Fingerprint,
    log: PaneLog,
    /// The count in the head's window.
    total: u32,
    /// Matching events so far; wraps, only differences are used.
    events: u32,
    /// Largest event time.
    newest: Micros,
    /// End of the chain of recent arrivals.
    last_arrival: u64,
}

/// Which group an event is in, before it has a slot.
struct GroupKey<'e> {
    event: &'e Event<'e>,
    values: SmallVec<[Scalar; 3]>,
    print: Fingerprint,
}

impl GroupKey<'_> {
    fn names(&self) -> Vec<String> {
        self.values.iter().map(|&value| self.event.text(value).to_owned()).collect()
    }
}

/// What only conditions judged at the watermark need.
#[derive(Debug, Default)]
struct Judging {
    groups: HashMap<u32, Judged>,
    /// Panes at which some group's count changes → those groups.
    due: BTreeMap<PaneIndex, Vec<u32>>,
}

#[derive(Debug)]
struct Judged {
    names: Vec<String>,
    /// The first pane not judged yet.
    next: PaneIndex,
}

/// The largest counts of the last timespan, in eighths of it.
#[derive(Debug, Default)]
struct PeakWindow {
    slices: [(PaneIndex, u32); 9],
}

impl PeakWindow {
    #[inline]
    fn see(&mut self, slice: PaneIndex, count: u32) {
        let place = &mut self.slices[slice as usize % 9];
        if place.0 != slice {
            *place = (slice, count);
        } else if count > place.1 {
            place.1 = count;
        }
    }

    fn largest(&self, newest: PaneIndex) -> u32 {
        self.slices.iter().filter(|(at, _)| at + 8 >= newest).map(|&(_, count)| count).max().unwrap_or(0)
    }
}

/// A rule at work.
#[derive(Debug)]
pub(crate) struct Correlation {
    id: String,
    rule: usize,
    when: Matcher,
    group_by: Vec<FieldId>,
    distinct: Option<FieldId>,
    holds: Holds,
    /// The least count that holds; `u64::MAX` where the condition is judged at the watermark.
    need: u64,
    /// Panes a window has.
    span: u32,
    resolution: Micros,
    /// Panes two runs of one finding may lie apart.
    keep: u32,

    slots: Vec<Option<Group>>,
    free: Vec<u32>,
    index: HashTable<u32>,
    pairs: PairTable,
    recent: Recent,
    judging: Option<Judging>,
    findings: FindingSet,
    peaks: PeakWindow,
    /// The watermark pane all bookkeeping has been done up to.
    settled: PaneIndex,
    sweep_at: usize,
    sweep_debt: f64,
    pub(crate) matched: u64,
    pub(crate) opened: u64,
}

fn hash_of(print: Fingerprint) -> u64 {
    (print >> 64) as u64
}

/// Bookkeeping of a group that every place with its slot may rely on: slots in `index` are occupied.
macro_rules! group {
    ($self:ident, $slot:expr) => {
        match $self.slots[$slot as usize].as_mut() {
            Some(group) => group,
            None => return,
        }
    };
}

impl Correlation {
    pub(crate) fn new(plan: &RulePlan, rule: usize, fields: &mut FieldTable) -> Result<Self, PlanError> {
        plan.check()?;
        let span = (plan.timespan_ms / plan.resolution_ms) as u32;
        let floor = plan.holds.floor();
        Ok(Self {
            id: plan.id.clone(),
            rule,
            when: Matcher::compile(&plan.when, &plan.id, fields)?,
            group_by: plan.group_by.iter().map(|name| fields.id(name)).collect::<Result<_, _>>()?,
            distinct: plan.distinct.as_deref().map(|name| fields.id(name)).transpose()?,
            holds: plan.holds,
            need: floor.unwrap_or(u64::MAX),
            span,
            resolution: plan.resolution_ms as Micros * 1000,
            keep: (plan.keep_open_ms / plan.resolution_ms) as u32,
            slots: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            pairs: PairTable::new(),
            recent: Recent::default(),
            judging: floor.is_none().then(Judging::default),
            findings: FindingSet::default(),
            peaks: PeakWindow::default(),
            settled: 0,
            sweep_at: 0,
            sweep_debt: 0.0,
            matched: 0,
            opened: 0,
        })
    }

    pub(crate) fn open_findings(&self) -> usize {
        self.findings.len()
    }

    pub(crate) fn groups(&self) -> usize {
        self.index.len()
    }

    /// The largest count any group reached within the last timespan before `newest`, over the threshold.
    pub(crate) fn peak_ratio(&self, newest: Option<Micros>) -> f64 {
        let threshold = self.holds.threshold().max(1);
        newest
            .map_or(0.0, |time| f64::from(self.peaks.largest(self.slice(self.pane(time)))) / threshold as f64)
    }

    pub(crate) fn bytes(&self) -> usize {
        let logs: usize = self.slots.iter().flatten().map(|group| group.log.heap_bytes()).sum();
        logs + self.slots.capacity() * size_of::<Option<Group>>()
            + self.index.allocation_size()
            + self.pairs.heap_bytes()
            + self.recent.heap_bytes()
    }

    #[inline]
    fn pane(&self, time: Micros) -> PaneIndex {
        // Accepted times lie between 1970 and 2100 and a pane is at least a second: this fits.
        time.div_euclid(self.resolution).clamp(0, Micros::from(PaneIndex::MAX)) as PaneIndex
    }

    fn slice(&self, pane: PaneIndex) -> PaneIndex {
        pane / self.span.div_ceil(8)
    }

    fn start_of(&self, pane: PaneIndex) -> Micros {
        Micros::from(pane) * self.resolution
    }

    /// Counts an event, if it matches. `watermark` is the one in force when it arrived.
    pub(crate) fn observe(&mut self, event: &Event<'_>, time: Micros, watermark: Micros, keyring: Keyring) {
        if !self.when.matches(event) {
            return;
        }
        self.matched += 1;
        let mut values: SmallVec<[u64; 4]> = SmallVec::new();
        if let Some(field) = self.distinct {
            for &scalar in event.scalars(field) {
                values.push(event.print(field, scalar, keyring) as u64);
            }
            if values.len() > 1 {
                values.sort_unstable();
                values.dedup();
            }
        }
        if let [field] = self.group_by[..]
            && let [scalar] = *event.scalars(field)
        {
            let print = event.print(field, scalar, keyring);
            let key = GroupKey { event, values: SmallVec::from_slice(&[scalar]), print };
            return self.count(&key, time, watermark, &values);
        }
        let mut seen: SmallVec<[Fingerprint; 8]> = SmallVec::new();
        let fields = self.group_by.clone();
        for_each_combination(event, &fields, &mut |combination| {
            let prints: SmallVec<[Fingerprint; 3]> = combination
                .iter()
                .zip(&fields)
                .map(|(&scalar, &field)| event.print(field, scalar, keyring))
                .collect();
            let print = keyring.combine(&prints);
            if !seen.contains(&print) {
                seen.push(print);
                let key = GroupKey { event, values: SmallVec::from_slice(combination), print };
                self.count(&key, time, watermark, &values);
            }
        });
    }

    fn slot(&mut self, key: &GroupKey<'_>) -> u32 {
        let hash = hash_of(key.print);
        let slots = &self.slots;
        let known = self
            .index
            .find(hash, |&slot| slots[slot as usize].as_ref().is_some_and(|group| group.print == key.print));
        if let Some(&slot) = known {
            return slot;
        }
        let group = Group {
            print: key.print,
            log: PaneLog::default(),
            total: 0,
            events: 0,
            newest: Micros::MIN,
            last_arrival: NO_ARRIVAL,
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[slot as usize] = Some(group);
        let slots = &self.slots;
        self.index.insert_unique(hash, slot, |&slot| {
            slots[slot as usize].as_ref().map_or(0, |group| hash_of(group.print))
        });
        if let Some(judging) = &mut self.judging {
            judging.groups.insert(slot, Judged { names: key.names(), next: self.settled });
        }
        slot
    }

    fn count(&mut self, key: &GroupKey<'_>, time: Micros, watermark: Micros, values: &[u64]) {
        let pane = self.pane(time);
        let late = time < watermark;
        if late && pane.saturating_add(self.span) <= self.pane(watermark) {
            return; // Its pane has left every window that is not final.
        }
        let slot = self.slot(key);
        if let Some(judging) = &mut self.judging {
            let known = self.slots[slot as usize].as_ref().is_some_and(|g| g.log.head() == Some(pane));
            if !known {
                judging.due.entry(pane).or_default().push(slot);
                judging.due.entry(pane.saturating_add(self.span)).or_default().push(slot);
            }
        }
        let group = group!(self, slot);
        if !late && group.log.head().is_none_or(|head| pane >= head) {
            self.in_order(slot, key, time, pane, values);
        } else {
            self.out_of_order(slot, key, time, pane, watermark, values);
        }
    }

    /// Moves a group's head to `pane` and settles where a holding run ended on the way.
    #[inline]
    fn advance(&mut self, slot: u32, pane: PaneIndex) {
        // A pane that left its last window at `settled` is still needed: that pane is judged only afterwards.
        let forget = self.settled.saturating_sub(self.span + 1);
        let (span, need, counts_values) = (self.span, self.need, self.distinct.is_some());
        let group = group!(self, slot);
        let mut total = group.total;
        let mut fell_at = None;
        group.log.advance(pane, span, forget, |left| {
            let before = u64::from(total);
            total -= if counts_values { left.last_values } else { left.events };
            if before >= need && u64::from(total) < need {
                fell_at = Some(left.index + span - 1);
            }
        });
        group.total = total;
        if let Some(last) = fell_at {
            let events = group.events;
            if let Some(finding) = self.findings.newest(slot).and_then(|key| self.findings.get_mut(key)) {
                finding.holding = false;
                finding.last = finding.last.max(last);
                finding.events_through = events;
            }
        }
    }

    fn in_order(&mut self, slot: u32, key: &GroupKey<'_>, time: Micros, pane: PaneIndex, values: &[u64]) {
        self.advance(slot, pane);
        let span = self.span;
        let group = group!(self, slot);
        group.events = group.events.wrapping_add(1);
        if let Some(head) = group.log.head_mut() {
            head.events += 1;
        }
        if self.distinct.is_none() {
            group.total += 1;
            let before = group.last_arrival;
            group.last_arrival = self.recent.push(Arrival { time, before, value: 0, value_was_last: 0 });
        }
        for &value in values {
            let was_last = self.pairs.see(value, slot, pane);
            if was_last != Some(pane) {
                if let Some(old) = was_last.and_then(|last| group.log.get_mut(last)) {
                    old.last_values -= 1;
                }
                if let Some(head) = group.log.head_mut() {
                    head.last_values += 1;
                }
                if was_last.is_none_or(|last| last + span <= pane) {
                    group.total += 1;
                }
            }
            let (before, value_was_last) = (group.last_arrival, was_last.unwrap_or(0));
            group.last_arrival = self.recent.push(Arrival { time, before, value, value_was_last });
        }
        let sorted = time >= group.newest;
        group.newest = group.newest.max(time);
        let total = group.total;
        let slice = self.slice(pane);
        self.peaks.see(slice, total);
        if u64::from(total) >= self.need {
            self.hold(slot, key, time, pane, sorted);
        }
    }

    /// The condition holds at the group's head, `pane`.
    fn hold(&mut self, slot: u32, key: &GroupKey<'_>, time: Micros, pane: PaneIndex, sorted: bool) {
        let group = group!(self, slot);
        let (total, events) = (u64::from(group.total), group.events);
        let keep = self.keep;
        if let Some(known) = self.findings.newest(slot)
            && let Some(finding) = self.findings.get_mut(known).filter(|f| f.joins(pane, pane, pane, keep))
        {
            finding.holding = true;
            finding.last = finding.last.max(pane);
            finding.peak = finding.peak.max(total);
            if !sorted && finding.first == pane {
                finding.recheck_from(pane);
            }
            return self.findings.mark(known);
        }
        let in_window: u32 = group.log.window().iter().map(|p| p.events).sum();
        let opened_at = if sorted { time } else { self.opening_time(slot, pane).unwrap_or(time) };
        self.open(Opening {
            slot,
            group: key.names(),
            first: pane,
            last: pane,
            holding: true,
            events_before: events.wrapping_sub(in_window),
            events_through: events,
            peak: total,
            opened_at,
        });
    }

    fn open(&mut self, opening: Opening) -> u32 {
        self.opened += 1;
        let due = self.over_at(opening.last);
        self.findings.open(&self.id, opening, due)
    }

    /// The watermark pane at which a finding last held at `last` is over: nothing can join it any more.
    fn over_at(&self, last: PaneIndex) -> PaneIndex {
        last.saturating_add(self.keep).saturating_add(2)
    }

    fn out_of_order(
        &mut self,
        slot: u32,
        key: &GroupKey<'_>,
        time: Micros,
        pane: PaneIndex,
        watermark: Micros,
        values: &[u64],
    ) {
        let span = self.span;
        if self.slots[slot as usize].as_ref().is_some_and(|group| group.log.head().is_none_or(|h| pane > h)) {
            self.advance(slot, pane);
        }
        let group = group!(self, slot);
        group.events = group.events.wrapping_add(1);
        let (own, inside) = group.log.at(pane, span);
        own.events += 1;
        if self.distinct.is_none() {
            group.total += u32::from(inside);
            let before = group.last_arrival;
            group.last_arrival = self.recent.push(Arrival { time, before, value: 0, value_was_last: 0 });
        }
        let head = group.log.head().unwrap_or(pane);
        for &value in values {
            let was_last = self.pairs.see(value, slot, pane);
            if was_last.is_none_or(|last| last < pane) {
                if let Some(old) = was_last.and_then(|last| group.log.get_mut(last)) {
                    old.last_values -= 1;
                }
                let (own, inside) = group.log.at(pane, span);
                own.last_values += 1;
                let counted = was_last.is_some_and(|last| last + span > head);
                group.total += u32::from(inside && !counted);
            }
            let (before, value_was_last) = (group.last_arrival, was_last.unwrap_or(0));
            group.last_arrival = self.recent.push(Arrival { time, before, value, value_was_last });
        }
        group.newest = group.newest.max(time);
        let count = group.total;
        let slice = self.slice(head);
        self.peaks.see(slice, count);
        let total = u64::from(count);
        let low = pane.max(self.pane(watermark));
        let high = head.max(low).min(pane.saturating_add(span - 1));
        if self.findings.has(slot) {
            self.shift_counts(slot, pane);
        }
        if self.judging.is_some() {
            return;
        }
        if let Some(known) = self.findings.newest(slot)
            && let Some(finding) = self.findings.get_mut(known).filter(|f| f.holding && f.first <= low)
        {
            finding.peak = finding.peak.max(total);
            finding.recheck_from(low);
            return self.findings.mark(known);
        }
        // No pane from `low` on can count more than everything kept that is inside its window or after it.
        let group = group!(self, slot);
        let counts_values = self.distinct.is_some();
        let most: u64 = (group.log.all().iter().rev())
            .take_while(|p| p.index + span > low)
            .map(|p| u64::from(if counts_values { p.last_values } else { p.events }))
            .sum();
        if most < self.need {
            return;
        }
        let names = key.names();
        let settled = self.pane(watermark);
        self.judge(slot, low, high, &names, |finding| finding.first >= settled);
    }

    /// An event has come into `pane`, which may lie before or inside findings already open.
    fn shift_counts(&mut self, slot: u32, pane: PaneIndex) {
        for key in self.findings.of(slot) {
            let span = self.span;
            let Some(finding) = self.findings.get_mut(key) else { continue };
            let before = pane.saturating_add(span) <= finding.first;
            if before {
                finding.events_before = finding.events_before.wrapping_add(1);
            }
            if pane <= finding.last {
                finding.events_through = finding.events_through.wrapping_add(1);
            }
            if !before {
                self.findings.mark(key);
            }
        }
    }

    /// Reads the counts of panes `low..=high` again and brings the findings up to them.
    fn judge(
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
    fn settle_opening(&mut self, key: u32) {
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
        let (head, total) = self.slots[slot as usize]
            .as_ref()
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
        self.slots[slot as usize].as_ref().map_or(0, |group| {
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
    fn segments(&self, slot: u32, low: PaneIndex, high: PaneIndex) -> Option<Segments> {
        let group = self.slots[slot as usize].as_ref()?;
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
    fn opening_time(&self, slot: u32, first: PaneIndex) -> Option<Micros> {
        let group = self.slots[slot as usize].as_ref()?;
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

    /// Brings everything up to the watermark at the end of a batch and reports what changed.
    pub(crate) fn settle(&mut self, watermark: Micros, changes: &mut Vec<Change>) {
        let pane = self.pane(watermark);
        self.recheck();
        self.judge_final(pane);
        self.report(changes);
        self.close(pane, changes);
        self.recent.trim(watermark);
        if pane > self.settled {
            let share = f64::from(pane - self.settled) / f64::from(self.span);
            self.settled = pane;
            self.sweep(share.min(1.0));
        }
    }

    /// Works off what events out of order left to be read again.
    fn recheck(&mut self) {
        for key in self.findings.take_changed() {
            let Some(finding) = self.findings.get_mut(key) else { continue };
            let (slot, holding, last) = (finding.slot, finding.holding, finding.last);
            if let Some(low) = finding.recheck.take() {
                let settle_opening = low <= finding.first;
                let head = self.slots[slot as usize].as_ref().and_then(|group| group.log.head());
                let high = head.filter(|_| holding).unwrap_or(last).max(low);
                let segments = self.segments(slot, low, high);
                let peak = segments.and_then(|s| s.within(low, high).map(|(_, _, count)| count).max());
                if let (Some(finding), Some(peak)) = (self.findings.get_mut(key), peak) {
                    finding.peak = finding.peak.max(peak);
                }
                if settle_opening {
                    self.settle_opening(key);
                }
            }
            self.findings.keep_changed(key);
        }
    }

    /// Judges the panes the watermark has passed, where the condition can only be judged then.
    fn judge_final(&mut self, pane: PaneIndex) {
        let Some(judging) = &mut self.judging else { return };
        if pane <= self.settled {
            return;
        }
        let later = judging.due.split_off(&pane);
        let passed = std::mem::replace(&mut judging.due, later);
        let mut slots: Vec<u32> = passed.into_values().flatten().collect();
        slots.sort_unstable();
        slots.dedup();
        for slot in slots {
            self.judge_group(slot, pane);
        }
    }

    /// Judges one group's panes below `pane` that have not been judged yet.
    fn judge_group(&mut self, slot: u32, pane: PaneIndex) {
        let judged = self.judging.as_mut().and_then(|judging| judging.groups.get_mut(&slot));
        let Some(judged) = judged.filter(|judged| judged.next < pane) else { return };
        let low = std::mem::replace(&mut judged.next, pane);
        let names = judged.names.clone();
        self.judge(slot, low, pane - 1, &names, |_| false);
    }

    fn report(&mut self, changes: &mut Vec<Change>) {
        for (finding, into) in self.findings.take_merged() {
            let merged_into = Some(into.to_string());
            changes.push(Change { merged_into, ..self.change(ChangeKind::Merged, &finding) });
        }
        for key in self.findings.take_changed() {
            let kind = if self.findings.told(key) { ChangeKind::Opened } else { ChangeKind::Updated };
            if let Some(finding) = self.findings.get(key) {
                changes.push(self.change(kind, finding));
            }
        }
    }

    fn close(&mut self, pane: PaneIndex, changes: &mut Vec<Change>) {
        while let Some(key) = self.findings.pop_due(pane) {
            if let Some(slot) = self.findings.get(key).map(|finding| finding.slot) {
                self.judge_group(slot, pane);
            }
            let Some(finding) = self.findings.get(key) else { continue };
            let last = self.held_through(finding);
            let over = self.over_at(last);
            if over > pane {
                self.findings.look_again(key, over);
            } else if let Some(finding) = self.findings.remove(key) {
                changes.push(self.change(ChangeKind::Closed, &finding));
            }
        }
    }

    /// The last pane at which a finding holds if no more events come.
    fn held_through(&self, finding: &Finding) -> PaneIndex {
        let group = self.slots[finding.slot as usize].as_ref().filter(|_| finding.holding);
        let Some(group) = group else { return finding.last };
        let mut rest = u64::from(group.total);
        for pane in group.log.window() {
            rest -= u64::from(if self.distinct.is_some() { pane.last_values } else { pane.events });
            if rest < self.need {
                return finding.last.max(pane.index + self.span - 1);
            }
        }
        finding.last
    }

    fn change(&self, kind: ChangeKind, finding: &Finding) -> Change {
        let last = self.held_through(finding);
        let until = self.start_of(last) + self.resolution;
        let events = match self.slots[finding.slot as usize].as_ref() {
            Some(group) if finding.holding => group.events,
            _ => finding.events_through,
        };
        Change {
            kind,
            id: finding.id.to_string(),
            rule: self.rule,
            group: finding.group.clone(),
            opened_at: finding.opened_at,
            closed_at: (kind == ChangeKind::Closed).then_some(until),
            from: self.start_of(finding.first),
            until,
            peak: finding.peak,
            count: u64::from(events.wrapping_sub(finding.events_before)),
            merged_into: None,
        }
    }

    /// Looks at a share of all groups and pairs and forgets those no window can reach any more.
    fn sweep(&mut self, share: f64) {
        let settled = self.settled;
        let span = self.span;
        self.pairs.sweep(share, |_, last| last.saturating_add(span) <= settled);
        self.recent.shrink();
        self.sweep_debt += self.slots.len() as f64 * share;
        while self.sweep_debt >= 1.0 && !self.slots.is_empty() {
            self.sweep_debt -= 1.0;
            self.sweep_at = (self.sweep_at + 1) % self.slots.len();
            let slot = self.sweep_at as u32;
            let dead = self.slots[self.sweep_at].as_ref().filter(|group| {
                group.log.head().is_none_or(|head| head.saturating_add(span) < settled)
                    && self.recent.has_left(group.last_arrival)
            });
            let Some(hash) = dead.map(|group| hash_of(group.print)) else { continue };
            if self.findings.has(slot) {
                continue;
            }
            if let Ok(entry) = self.index.find_entry(hash, |&other| other == slot) {
                entry.remove();
            }
            self.slots[self.sweep_at] = None;
            self.free.push(slot);
            if let Some(judging) = &mut self.judging {
                judging.groups.remove(&slot);
            }
        }
        self.shrink();
    }

    /// Gives memory back when most groups are gone.
    fn shrink(&mut self) {
        if self.slots.len() < 1024 || self.index.len() * 4 > self.slots.len() {
            return;
        }
        while self.slots.last().is_some_and(Option::is_none) {
            self.slots.pop();
        }
        let end = self.slots.len() as u32;
        self.free.retain(|&slot| slot < end);
        self.slots.shrink_to(self.slots.len() * 2);
        self.free.shrink_to_fit();
        let slots = &self.slots;
        self.index.shrink_to(self.index.len() * 2, |&slot| {
            slots[slot as usize].as_ref().map_or(0, |group| hash_of(group.print))
        });
    }
}

/// Every way to take one scalar of each field; none when a field has none.
fn for_each_combination(event: &Event<'_>, fields: &[FieldId], each: &mut impl FnMut(&[Scalar])) {
    let mut chosen: SmallVec<[Scalar; 3]> = SmallVec::new();
    descend(event, fields, &mut chosen, each);
}

fn descend(
    event: &Event<'_>,
    fields: &[FieldId],
    chosen: &mut SmallVec<[Scalar; 3]>,
    each: &mut impl FnMut(&[Scalar]),
) {
    let Some((&field, rest)) = fields.split_first() else { return each(chosen) };
    for &scalar in event.scalars(field) {
        chosen.push(scalar);
        descend(event, rest, chosen, each);
        chosen.pop();
    }
}
