//! Detection: one rule's evaluation of a window's counts, which yields findings.
//!
//! A [`Detector`] holds the open findings of one rule in one shard. Rules are evaluated in one of four ways:
//! - `gte` and `gt` on counts: on each event ([`Detector::on_threshold_met`], [`Detector::out_of_order`]). More
//!   events can only raise a count, so the set of panes in which the condition holds only grows, and events that
//!   arrive in any order within the allowed lateness yield the findings of the sorted stream.
//! - `gte` and `gt` on an aggregate that more events can only raise (sums, sequences): on each event
//!   ([`on_aggregate`]).
//! - against a baseline: on each event, in panes with events ([`baseline_rule`]).
//! - *deferred*: conditions that can cease to hold in a pane when more events arrive (`lt`, `eq`, means, …): once per
//!   pane, when the watermark has passed it ([`on_watermark`]).
//!
//! [`crate::keyed::KeyedStream`] calls these for each event. [`Detector::advance_watermark`] then collects the changes
//! of findings at the end of a batch. Out-of-order events and deferred evaluation share the recomputation of past panes
//! in [`out_of_order`].
//!
//! Cost: an event that does not reach the threshold costs one comparison; the rest is proportional to the panes that
//! an out-of-order event touches.

mod advance;
mod baseline;
mod baseline_rule;
mod deferred;
mod finding;
mod on_aggregate;
mod on_watermark;
mod out_of_order;

pub(crate) use baseline::{BaselineState, ByPeer, Profiles};
pub use finding::{Change, ChangeKind};

use crate::foundation::codec::{Damaged, StateReader, StateWriter};
use crate::foundation::group_name::GroupName;
use crate::foundation::ordered::Scale;
use crate::foundation::partition::SHARDS;
use crate::foundation::time::Micros;
use crate::plan::{Bounds, RulePlan};
use crate::window::{PaneIndex, WindowView};
use deferred::Deferred;
use finding::{FindingSet, Opening, Threshold};
use rustc_hash::FxHashSet;
use uuid::Uuid;

/// An event that was just counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CountedEvent {
    /// Slot of its group.
    pub(crate) slot: u32,
    pub(crate) time: Micros,
    pub(crate) pane: PaneIndex,
    /// The watermark when the event arrived.
    pub(crate) watermark: Micros,
    /// Whether no event of its group has a larger time so far.
    pub(crate) newest: bool,
}

/// A finding's opening that no further event can change; input for rules that count openings.
#[derive(Debug, Clone)]
pub(crate) struct FinalOpening {
    /// Index of the finding's rule in the plan.
    pub(crate) rule: usize,
    /// Independent of the arrival order of events.
    pub(crate) id: Uuid,
    pub(crate) time: Micros,
    pub(crate) group: GroupName,
    /// Largest count so far.
    pub(crate) peak: f64,
}

/// Status of a group for one rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupStatus {
    /// Current count or measure.
    pub level: f64,
    /// Threshold that it is compared with; `None` while a baseline has no expected value.
    pub threshold: Option<f64>,
    /// Expected count, if the rule has a baseline.
    pub expected: Option<f64>,
}

/// Resolves a group's names by reading the event again; called only when a finding may open.
pub(crate) type NameLookup<'a> = dyn FnMut() -> GroupName + 'a;

/// One rule in one shard.
#[derive(Debug)]
pub(crate) struct Detector {
    id: String,
    /// Index of the rule in the plan.
    pub(crate) rule: usize,
    /// The condition, on encoded counts.
    holds: Bounds,
    /// Encoding of counts and thresholds.
    scale: Scale,
    /// Smallest encoded count at which the condition holds; `u64::MAX` if the rule is evaluated at the watermark or
    /// against a baseline.
    pub(crate) need: u64,
    /// Largest gap, in panes, between two runs of one finding.
    keep: u32,
    /// Schedule of evaluation, if the rule is deferred.
    deferred: Option<Deferred>,
    /// Days of each group, if the rule has a baseline.
    profiles: Option<Box<Profiles>>,
    findings: FindingSet,
    /// Whether findings are used only by other rules and not reported.
    silent: bool,
    /// Final openings, collected for rules that count them; `None` if no rule does.
    published: Option<Vec<FinalOpening>>,
    /// Number of findings opened so far.
    pub(crate) opened: u64,
    /// Number of open findings from which on only groups at a multiple of the threshold open one.
    most_open: usize,
    /// Slots of the groups that meet the condition but got no finding because of `most_open`.
    suppressed: FxHashSet<u32>,
}

/// Limit of [`Detector::suppressed`]: a flood of groups must not exhaust memory. Further groups are not counted.
const MAX_SUPPRESSED: usize = 1 << 18;

/// State that can be reused from a rule whose definition changed.
pub(crate) struct RetiredRule {
    /// Ids and last panes of its open findings.
    pub(crate) findings: Vec<(String, PaneIndex)>,
    /// Its baseline days.
    pub(crate) baseline: Option<BaselineState>,
}

/// Saved state of a detector.
struct SavedDetector {
    opened: u64,
    findings: FindingSet,
    deferred: Option<Deferred>,
    baseline: Option<BaselineState>,
}

impl SavedDetector {
    fn load(from: &mut StateReader<'_>, over_at: impl Fn(PaneIndex) -> PaneIndex) -> Result<Self, Damaged> {
        let (opened, findings) = (from.u64()?, FindingSet::load(from, over_at)?);
        let deferred = if from.flag()? { Some(Deferred::load(from)?) } else { None };
        let baseline = if from.flag()? { Some(BaselineState::load(from)?) } else { None };
        Ok(Self { opened, findings, deferred, baseline })
    }
}

impl Detector {
    /// `profiles` must be given for a rule with a baseline.
    pub(crate) fn new(plan: &RulePlan, rule: usize, profiles: Option<Profiles>) -> Self {
        let floor = plan.floor();
        let has_baseline = profiles.is_some();
        Self {
            id: plan.id.clone(),
            rule,
            holds: plan.on_levels(),
            scale: plan.scale(),
            need: floor.filter(|_| !has_baseline).unwrap_or(u64::MAX),
            keep: (plan.keep_open_ms / plan.resolution_ms) as u32,
            deferred: floor.is_none().then(Deferred::default),
            profiles: profiles.map(Box::new),
            findings: FindingSet::default(),
            silent: plan.silent,
            published: None,
            opened: 0,
            most_open: plan.most_open.map_or(usize::MAX, |most| most.get().div_ceil(SHARDS)),
            suppressed: FxHashSet::default(),
        }
    }

    pub(crate) fn save(&self, to: &mut StateWriter) {
        to.u64(self.opened);
        self.findings.save(to);
        to.flag(self.deferred.is_some());
        if let Some(deferred) = &self.deferred {
            deferred.save(to);
        }
        to.flag(self.profiles.is_some());
        if let Some(profiles) = &self.profiles {
            profiles.save(to);
        }
    }

    /// Loads the saved state of the same rule.
    pub(crate) fn load(&mut self, from: &mut StateReader<'_>) -> Result<(), Damaged> {
        let saved = SavedDetector::load(from, |last| self.over_at(last))?;
        (self.opened, self.findings, self.deferred) = (saved.opened, saved.findings, saved.deferred);
        self.resume_from(saved.baseline);
        Ok(())
    }

    /// Restores the baseline days of a rule that stores the same days.
    pub(crate) fn resume_from(&mut self, baseline: Option<BaselineState>) {
        if let (Some(profiles), Some(baseline)) = (&mut self.profiles, baseline) {
            profiles.resume_from(baseline);
        }
    }

    /// Skips the saved state of a rule that changed, and returns what can be reused.
    pub(crate) fn load_retired(from: &mut StateReader<'_>) -> Result<RetiredRule, Damaged> {
        let saved = SavedDetector::load(from, |last| last)?;
        let findings = saved.findings.ids().map(|(id, last)| (id.to_string(), last)).collect();
        Ok(RetiredRule { findings, baseline: saved.baseline })
    }

    /// Collects final openings from now on, for [`Self::take_final_openings`].
    pub(crate) fn publish_openings(&mut self) {
        self.published = Some(Vec::new());
    }

    /// Takes the openings that became final since the last call.
    pub(crate) fn take_final_openings(&mut self) -> Vec<FinalOpening> {
        self.published.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Memory of the baseline, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.profiles.as_ref().map_or(0, |profiles| profiles.heap_bytes())
    }

    /// Whether the group's state is still needed: for an open finding, or for its baseline days.
    pub(crate) fn keeps(&self, slot: u32) -> bool {
        self.has_finding(slot) || self.profiles.as_ref().is_some_and(|profiles| profiles.keeps(slot))
    }

    /// Ratio of the largest recent count to the threshold.
    pub(crate) fn peak_ratio(&self, largest: u64) -> f64 {
        let plain = || self.ratio(largest, self.displayed_threshold());
        self.profiles.as_ref().map_or_else(plain, |profiles| profiles.closest())
    }

    pub(crate) fn open_findings(&self) -> usize {
        self.findings.len()
    }

    pub(crate) fn suppressed(&self) -> usize {
        self.suppressed.len()
    }

    /// The threshold shown in findings.
    pub(crate) fn displayed_threshold(&self) -> u64 {
        self.holds.threshold().max(1)
    }

    /// Status of a group whose encoded count is `level`.
    pub(crate) fn group_status(&mut self, slot: u32, level: u64, time: Micros) -> GroupStatus {
        let plain = Some(Threshold { need: self.displayed_threshold(), expected: None });
        let threshold = self.profiles.as_mut().map_or(plain, |profiles| profiles.threshold(slot, time));
        GroupStatus {
            level: self.scale.decode(level),
            threshold: threshold.map(|threshold| self.scale.decode(threshold.need)),
            expected: threshold.and_then(|threshold| threshold.expected),
        }
    }

    /// Ratio of two encoded counts, as plain numbers.
    fn ratio(&self, level: u64, of: u64) -> f64 {
        let ratio = self.scale.decode(level) / self.scale.decode(of);
        if ratio.is_finite() { ratio } else { 0.0 }
    }

    /// Whether the group has an open finding.
    pub(crate) fn has_finding(&self, slot: u32) -> bool {
        self.findings.has(slot)
    }

    /// Whether the rule fires on low counts.
    pub(crate) fn fires_on_low_counts(&self) -> bool {
        self.holds.floor().is_none()
    }

    /// Whether a count is above half of the threshold; with a baseline, of the smallest possible threshold.
    pub(crate) fn is_near_threshold(&self, level: u64) -> bool {
        let floor = self.profiles.as_ref().map_or(self.displayed_threshold(), |profiles| profiles.floor());
        self.scale.decode(level) * 2.0 > self.scale.decode(floor)
    }

    /// Called when a count falls from `before` to `after`; `last` is the last pane with the old count.
    #[cold]
    pub(crate) fn on_decrease(&mut self, slot: u32, last: PaneIndex, before: u64, after: u64, events: u32) {
        if before < self.need || after >= self.need {
            return;
        }
        self.suppressed.remove(&slot);
        if let Some(finding) = self.findings.newest(slot).and_then(|key| self.findings.get_mut(key)) {
            finding.holding = false;
            finding.last = finding.last.max(last);
            finding.events_through = events;
        }
    }

    /// Called for an in-order event after which the condition holds in the group's newest pane: extends the newest
    /// finding by that pane, or opens a finding.
    pub(crate) fn on_threshold_met(
        &mut self,
        counts: WindowView<'_>,
        event: CountedEvent,
        names: &mut NameLookup<'_>,
    ) {
        let CountedEvent { slot, time, pane, newest, .. } = event;
        let total = counts.total(slot);
        let keep = self.keep;
        if let Some(key) = self.findings.newest(slot)
            && let Some(finding) = self.findings.get_mut(key).filter(|f| f.joins(pane, pane, pane, keep))
        {
            finding.holding = true;
            finding.last = finding.last.max(pane);
            finding.peak = finding.peak.max(total);
            // An event that is not the newest can move the opening time, if the finding opened in its pane.
            let recheck = !newest && finding.first == pane;
            self.findings.mark(key);
            if recheck {
                self.findings.recheck_from(key, pane);
            }
            return;
        }
        if !self.has_room_for(slot, total, self.need) {
            return;
        }
        let reached_at = if newest { None } else { counts.reached_at(slot, pane, self.need) };
        let events = counts.events(slot);
        self.open(Opening {
            slot,
            group: names(),
            first: pane,
            last: pane,
            holding: true,
            events_before: events.wrapping_sub(counts.events_in_window(slot)),
            events_through: events,
            peak: total,
            opened_at: reached_at.unwrap_or(time),
            threshold: self.fixed_threshold(),
        });
    }

    /// Whether a finding may open for a group with count `peak`. Each doubling of the threshold has its own quota, so
    /// that a group far above the threshold is not hidden by many just above it.
    fn has_room_for(&mut self, slot: u32, peak: u64, need: u64) -> bool {
        let doublings = self.ratio(peak, need).max(1.0).log2() as usize;
        let has_room = self.findings.len() < self.most_open.saturating_mul(1 + doublings);
        if has_room {
            self.suppressed.remove(&slot);
        } else if self.suppressed.len() < MAX_SUPPRESSED {
            self.suppressed.insert(slot);
        }
        has_room
    }

    /// The threshold of every group of a rule without a baseline.
    fn fixed_threshold(&self) -> Threshold {
        Threshold { need: self.need, expected: None }
    }

    fn open(&mut self, opening: Opening) -> u32 {
        self.opened += 1;
        let due = self.over_at(opening.last);
        self.findings.open(&self.id, opening, due)
    }

    /// First watermark pane at which a finding that last held in pane `last` can close. A run that starts up to
    /// `keep + 1` panes later joins the finding, so the watermark must have passed that pane, too.
    fn over_at(&self, last: PaneIndex) -> PaneIndex {
        last.saturating_add(self.keep).saturating_add(2)
    }

    /// Called for an event that is out of order or late: evaluates the panes that it counts in, from the watermark on.
    pub(crate) fn out_of_order(
        &mut self,
        counts: WindowView<'_>,
        event: CountedEvent,
        names: &mut NameLookup<'_>,
    ) {
        let CountedEvent { slot, pane, watermark, .. } = event;
        let watermark_pane = counts.pane(watermark);
        let head = counts.head(slot).unwrap_or(pane);
        let low = pane.max(watermark_pane);
        let high = head.max(low).min(pane.saturating_add(counts.span - 1));
        if self.findings.has(slot) {
            self.shift_counts(counts, slot, pane);
        }
        if self.deferred.is_some() {
            return;
        }
        if let Some(key) = self.findings.newest(slot)
            && let Some(finding) = self.findings.get_mut(key).filter(|f| f.holding && f.first <= low)
        {
            // The finding already covers all panes from `low` to the newest; only its peak and opening time can change.
            finding.peak = finding.peak.max(counts.total(slot));
            self.findings.mark(key);
            return self.findings.recheck_from(key, low);
        }
        if counts.at_most(slot, low, high) >= self.need {
            self.reevaluate(counts, slot, low, high, &names(), |finding| finding.first >= watermark_pane);
        }
    }

    /// Updates the event counters of the group's findings for an out-of-order event in `pane`. The group's running
    /// counter was increased, so the stored values of panes from `pane` on are one too low.
    fn shift_counts(&mut self, counts: WindowView<'_>, slot: u32, pane: PaneIndex) {
        for key in self.findings.of(slot) {
            let Some(finding) = self.findings.get_mut(key) else { continue };
            let before = pane.saturating_add(counts.span) <= finding.first;
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
