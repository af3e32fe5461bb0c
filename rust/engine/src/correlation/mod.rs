//! One rule's counting: groups, their panes, and the runs of panes in which the condition holds.
//!
//! Two ways in. *In order* (almost always): the event is the group's newest, everything is O(1). *Out of
//! order*: the event goes into its own pane and the counts of the panes it touches are read again, from the
//! pane log and the group's recent arrivals. Since more events only raise a count, the panes that hold can
//! only grow, so events may come in any order within the allowed lateness and give the sorted stream's
//! findings. Conditions that more events can end (`lt`, `eq`, …) are judged once, when the watermark passes.

mod group;
mod intake;
mod rejudge;
mod settle;

use crate::field::{FieldId, FieldTable};
use crate::finding::{FindingSet, Opening};
use crate::matcher::Matcher;
use crate::plan::{Holds, PlanError, RulePlan};
use crate::time::Micros;
use crate::window::{Arrival, PairTable, PaneIndex, Recent};
use group::GroupTable;
use intake::{Intake, Work};
use std::collections::{BTreeMap, HashMap};

pub(crate) use intake::Names;

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

    intake: Intake,
    groups: GroupTable,
    pairs: PairTable,
    recent: Recent,
    judging: Option<Judging>,
    findings: FindingSet,
    peaks: PeakWindow,
    /// The watermark pane all bookkeeping has been done up to.
    settled: PaneIndex,
    pub(crate) matched: u64,
    pub(crate) opened: u64,
}

/// The group in a slot, which intake has filled.
macro_rules! group {
    ($self:ident, $slot:expr) => {
        match $self.groups.get_mut($slot) {
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
            intake: Intake::default(),
            groups: GroupTable::default(),
            pairs: PairTable::new(),
            recent: Recent::default(),
            judging: floor.is_none().then(Judging::default),
            findings: FindingSet::default(),
            peaks: PeakWindow::default(),
            settled: 0,
            matched: 0,
            opened: 0,
        })
    }

    pub(crate) fn open_findings(&self) -> usize {
        self.findings.len()
    }

    pub(crate) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// The largest count any group reached within the last timespan before `newest`, over the threshold.
    pub(crate) fn peak_ratio(&self, newest: Option<Micros>) -> f64 {
        let threshold = self.holds.threshold().max(1);
        newest
            .map_or(0.0, |time| f64::from(self.peaks.largest(self.slice(self.pane(time)))) / threshold as f64)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.groups.heap_bytes() + self.pairs.heap_bytes() + self.recent.heap_bytes()
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

    fn start_judging(&mut self, slot: u32, names: Vec<String>) {
        let next = self.settled;
        if let Some(judging) = &mut self.judging {
            judging.groups.insert(slot, Judged { names, next });
        }
    }

    /// Counts an event in its group.
    fn count(&mut self, slot: u32, work: &Work, values: &[u64], names: &mut Names<'_>) {
        let pane = self.pane(work.time);
        let late = work.time < work.watermark;
        if late && pane.saturating_add(self.span) <= self.pane(work.watermark) {
            return; // Its pane has left every window that is not final.
        }
        let head = group!(self, slot).log.head();
        if let Some(judging) = self.judging.as_mut().filter(|_| head != Some(pane)) {
            // The pane before is due as well: the arrival about to be kept says where its values were until now,
            // and it is let go of as soon as the watermark is past it.
            for due in [pane.saturating_sub(1), pane, pane.saturating_add(self.span)] {
                judging.due.entry(due).or_default().push(slot);
            }
        }
        if !late && head.is_none_or(|head| pane >= head) {
            self.in_order(slot, work, pane, values, names);
        } else {
            self.out_of_order(slot, work, pane, values, names);
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

    /// Enters an event into its pane, which must lie at or below the head or be missing below it. Returns
    /// whether the event is the group's newest.
    #[inline]
    fn enter(&mut self, slot: u32, time: Micros, pane: PaneIndex, values: &[u64]) -> bool {
        let span = self.span;
        let Some(group) = self.groups.get_mut(slot) else { return false };
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
                group.log.at(pane, span).0.last_values += 1;
                let counted = was_last.is_some_and(|last| last + span > head);
                group.total += u32::from(inside && !counted);
            }
            let (before, value_was_last) = (group.last_arrival, was_last.unwrap_or(0));
            group.last_arrival = self.recent.push(Arrival { time, before, value, value_was_last });
        }
        let newest = time >= group.newest;
        group.newest = group.newest.max(time);
        let total = group.total;
        let slice = self.slice(head);
        self.peaks.see(slice, total);
        newest
    }

    fn in_order(&mut self, slot: u32, work: &Work, pane: PaneIndex, values: &[u64], names: &mut Names<'_>) {
        self.advance(slot, pane);
        let sorted = self.enter(slot, work.time, pane, values);
        if u64::from(group!(self, slot).total) >= self.need {
            self.hold(slot, work, pane, sorted, names);
        }
    }

    /// The condition holds at the group's head, `pane`.
    fn hold(&mut self, slot: u32, work: &Work, pane: PaneIndex, sorted: bool, names: &mut Names<'_>) {
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
        let settled = if sorted { None } else { self.opening_time(slot, pane) };
        self.open(Opening {
            slot,
            group: names.of(work, &self.group_by),
            first: pane,
            last: pane,
            holding: true,
            events_before: events.wrapping_sub(in_window),
            events_through: events,
            peak: total,
            opened_at: settled.unwrap_or(work.time),
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
        work: &Work,
        pane: PaneIndex,
        values: &[u64],
        names: &mut Names<'_>,
    ) {
        let watermark = work.watermark;
        let span = self.span;
        if group!(self, slot).log.head().is_none_or(|head| pane > head) {
            self.advance(slot, pane);
        }
        self.enter(slot, work.time, pane, values);
        let group = group!(self, slot);
        let (head, total) = (group.log.head().unwrap_or(pane), u64::from(group.total));
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
        let names = names.of(work, &self.group_by);
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
}
