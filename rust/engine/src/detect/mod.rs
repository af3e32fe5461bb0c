//! One rule's decisions over a window's counts: the runs of panes in which its condition holds.
//!
//! Since more events only raise a count, the panes that hold a `gte` can only grow, so events may come in any
//! order within the allowed lateness and give the sorted stream's findings. Conditions that more events can end
//! (`lt`, `eq`, …) are judged once, when the watermark passes.

mod baseline;
mod following;
mod judging;
mod measuring;
mod reread;
mod settle;

use crate::codec::{Damaged, Reader, Writer};
use crate::engine::Standing;
use crate::finding::{FindingSet, Opening};
use crate::level::Scale;
use crate::plan::{Holds, RulePlan};
use crate::shard::SHARDS;
use crate::time::Micros;
use crate::window::{PaneIndex, Reading};
pub(crate) use baseline::{Bar, ByPeer, Day, Days, Known, Profiles};
use judging::Judging;
use rustc_hash::FxHashSet;
use uuid::Uuid;

/// An event that has just been counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    /// Its group.
    pub(crate) slot: u32,
    pub(crate) time: Micros,
    pub(crate) pane: PaneIndex,
    /// The watermark in force when it arrived.
    pub(crate) watermark: Micros,
    /// Whether it is the newest of its group.
    pub(crate) newest: bool,
}

/// The opening of a finding, for rules that count those.
#[derive(Debug, Clone)]
pub(crate) struct Announced {
    /// Its rule's position in the plan.
    pub(crate) rule: usize,
    /// The same whatever the order in which events came.
    pub(crate) id: Uuid,
    pub(crate) time: Micros,
    pub(crate) group: Vec<String>,
    /// The largest count so far.
    pub(crate) peak: f64,
}

/// Looks a group's names up; done when a finding opens, not for every event.
pub(crate) type NamesOf<'a> = dyn FnMut() -> Vec<String> + 'a;

/// A rule at work.
#[derive(Debug)]
pub(crate) struct Detector {
    id: String,
    /// The rule's position in the plan.
    pub(crate) rule: usize,
    holds: Holds,
    /// What levels stand for.
    scale: Scale,
    /// The least level that holds; `u64::MAX` where the condition is judged at the watermark or by a baseline.
    pub(crate) need: u64,
    /// Panes two runs of one finding may lie apart.
    keep: u32,
    judging: Option<Judging>,
    /// What is usual, of a rule with a baseline.
    profiles: Option<Box<Profiles>>,
    findings: FindingSet,
    /// Whether only other rules hear of its findings.
    silent: bool,
    /// Openings that other rules have to hear of; `None` where none does.
    announced: Option<Vec<Announced>>,
    pub(crate) opened: u64,
    /// How many findings may be open before only groups that stand out open one.
    most_open: usize,
    /// Groups without a finding though the condition holds, because there are so many.
    unlisted: FxHashSet<u32>,
}

/// More groups than these are not told apart from none, so that a storm does not take the memory it is told of with.
const MOST_UNLISTED: usize = 1 << 18;

/// What is of use of a rule that is another now.
pub(crate) struct Gone {
    /// Ids and last panes of its findings.
    pub(crate) findings: Vec<(String, PaneIndex)>,
    /// Its days.
    pub(crate) known: Option<Known>,
}

/// What is saved of a rule at work.
struct SavedDetector {
    opened: u64,
    findings: FindingSet,
    judging: Option<Judging>,
    known: Option<Known>,
}

impl SavedDetector {
    fn load(from: &mut Reader<'_>, over_at: impl Fn(PaneIndex) -> PaneIndex) -> Result<Self, Damaged> {
        let (opened, findings) = (from.u64()?, FindingSet::load(from, over_at)?);
        let judging = if from.flag()? { Some(Judging::load(from)?) } else { None };
        let known = if from.flag()? { Some(Known::load(from)?) } else { None };
        Ok(Self { opened, findings, judging, known })
    }
}

impl Detector {
    /// `profiles` are those of a rule with a baseline.
    pub(crate) fn new(plan: &RulePlan, rule: usize, profiles: Option<Profiles>) -> Self {
        let floor = plan.floor();
        let follows = profiles.is_some();
        Self {
            id: plan.id.clone(),
            rule,
            holds: plan.on_levels(),
            scale: plan.scale(),
            need: floor.filter(|_| !follows).unwrap_or(u64::MAX),
            keep: (plan.keep_open_ms / plan.resolution_ms) as u32,
            judging: floor.is_none().then(Judging::default),
            profiles: profiles.map(Box::new),
            findings: FindingSet::default(),
            silent: plan.silent,
            announced: None,
            opened: 0,
            most_open: plan.most_open.map_or(usize::MAX, |most| most.get().div_ceil(SHARDS)),
            unlisted: FxHashSet::default(),
        }
    }

    pub(crate) fn save(&self, to: &mut Writer) {
        to.u64(self.opened);
        self.findings.save(to);
        to.flag(self.judging.is_some());
        if let Some(judging) = &self.judging {
            judging.save(to);
        }
        to.flag(self.profiles.is_some());
        if let Some(profiles) = &self.profiles {
            profiles.save(to);
        }
    }

    /// Takes over what was saved of the same rule.
    pub(crate) fn load(&mut self, from: &mut Reader<'_>) -> Result<(), Damaged> {
        let saved = SavedDetector::load(from, |last| self.over_at(last))?;
        (self.opened, self.findings, self.judging) = (saved.opened, saved.findings, saved.judging);
        self.go_on_from(saved.known);
        Ok(())
    }

    /// Goes on from the days that were saved of a rule that keeps the same ones.
    pub(crate) fn go_on_from(&mut self, known: Option<Known>) {
        if let (Some(profiles), Some(known)) = (&mut self.profiles, known) {
            profiles.go_on_from(known);
        }
    }

    /// Passes over what was saved of a rule that is another now.
    pub(crate) fn pass_over(from: &mut Reader<'_>) -> Result<Gone, Damaged> {
        let saved = SavedDetector::load(from, |last| last)?;
        let findings = saved.findings.ids().map(|(id, last)| (id.to_string(), last)).collect();
        Ok(Gone { findings, known: saved.known })
    }

    /// Has the openings of its findings kept for [`Self::take_announced`].
    pub(crate) fn announce(&mut self) {
        self.announced = Some(Vec::new());
    }

    /// Openings that have come to be final since the last call.
    pub(crate) fn take_announced(&mut self) -> Vec<Announced> {
        self.announced.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Bytes of what is usual for whom.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.profiles.as_ref().map_or(0, |profiles| profiles.heap_bytes())
    }

    /// Whether a group must be kept: for its open finding, or for what is usual for it.
    pub(crate) fn keeps(&self, slot: u32) -> bool {
        self.has(slot) || self.profiles.as_ref().is_some_and(|profiles| profiles.keeps(slot))
    }

    /// The largest of `counts` there was lately over what it is held against.
    pub(crate) fn peak_ratio(&self, largest: u64) -> f64 {
        let plain = || self.times(largest, self.threshold());
        self.profiles.as_ref().map_or_else(plain, |profiles| profiles.closest())
    }

    pub(crate) fn open_findings(&self) -> usize {
        self.findings.len()
    }

    pub(crate) fn unlisted(&self) -> usize {
        self.unlisted.len()
    }

    /// The level shown as a finding's threshold.
    pub(crate) fn threshold(&self) -> u64 {
        self.holds.threshold().max(1)
    }

    /// What a group's level is held against at a time.
    pub(crate) fn standing(&mut self, slot: u32, level: u64, time: Micros) -> Standing {
        let plain = Some(Bar { need: self.threshold(), usual: None });
        let bar = self.profiles.as_mut().map_or(plain, |profiles| profiles.bar(slot, time));
        Standing {
            level: self.scale.number(level),
            threshold: bar.map(|bar| self.scale.number(bar.need)),
            usual: bar.and_then(|bar| bar.usual),
        }
    }

    /// One level over another, as what they stand for.
    fn times(&self, level: u64, of: u64) -> f64 {
        let times = self.scale.number(level) / self.scale.number(of);
        if times.is_finite() { times } else { 0.0 }
    }

    /// Whether a group has an open finding.
    pub(crate) fn has(&self, slot: u32) -> bool {
        self.findings.has(slot)
    }

    /// Whether it looks for groups that have little.
    pub(crate) fn looks_for_little(&self) -> bool {
        self.holds.floor().is_none()
    }

    /// Whether a level is close to the threshold: more than half of it.
    pub(crate) fn is_close(&self, level: u64) -> bool {
        let floor = self.profiles.as_ref().map_or(self.threshold(), |profiles| profiles.floor());
        self.scale.number(level) * 2.0 > self.scale.number(floor)
    }

    /// The count fell from `before` to `after`; `last` is the last pane that had the count before.
    #[cold]
    pub(crate) fn fell(&mut self, slot: u32, last: PaneIndex, before: u64, after: u64, events: u32) {
        if before < self.need || after >= self.need {
            return;
        }
        self.unlisted.remove(&slot);
        if let Some(finding) = self.findings.newest(slot).and_then(|key| self.findings.get_mut(key)) {
            finding.holding = false;
            finding.last = finding.last.max(last);
            finding.events_through = events;
        }
    }

    /// The condition holds at the group's head, `event`'s pane.
    pub(crate) fn hold(&mut self, counts: Reading<'_>, event: Counted, names: &mut NamesOf<'_>) {
        let Counted { slot, time, pane, newest, .. } = event;
        let total = counts.total(slot);
        let keep = self.keep;
        if let Some(known) = self.findings.newest(slot)
            && let Some(finding) = self.findings.get_mut(known).filter(|f| f.joins(pane, pane, pane, keep))
        {
            finding.holding = true;
            finding.last = finding.last.max(pane);
            finding.peak = finding.peak.max(total);
            let recheck = !newest && finding.first == pane;
            self.findings.mark(known);
            if recheck {
                self.findings.recheck_from(known, pane);
            }
            return;
        }
        if !self.has_room_for(slot, total, self.need) {
            return;
        }
        let settled = if newest { None } else { counts.reached_at(slot, pane, self.need) };
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
            opened_at: settled.unwrap_or(time),
            bar: self.bar(),
        });
    }

    /// Whether a finding may open for a group whose count is `peak`. Each doubling of the threshold has room of its own, so
    /// that nobody is hidden behind a crowd that has done less.
    fn has_room_for(&mut self, slot: u32, peak: u64, need: u64) -> bool {
        let doublings = self.times(peak, need).max(1.0).log2() as usize;
        let has_room = self.findings.len() < self.most_open.saturating_mul(1 + doublings);
        if has_room {
            self.unlisted.remove(&slot);
        } else if self.unlisted.len() < MOST_UNLISTED {
            self.unlisted.insert(slot);
        }
        has_room
    }

    /// What every group of a rule without a baseline is held against.
    fn bar(&self) -> Bar {
        Bar { need: self.need, usual: None }
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

    /// An event has come into a pane below its group's head, or behind the watermark.
    pub(crate) fn out_of_order(&mut self, counts: Reading<'_>, event: Counted, names: &mut NamesOf<'_>) {
        let Counted { slot, pane, watermark, .. } = event;
        let settled = counts.pane(watermark);
        let head = counts.head(slot).unwrap_or(pane);
        let low = pane.max(settled);
        let high = head.max(low).min(pane.saturating_add(counts.span - 1));
        if self.findings.has(slot) {
            self.shift_counts(counts, slot, pane);
        }
        if self.judging.is_some() {
            return;
        }
        if let Some(known) = self.findings.newest(slot)
            && let Some(finding) = self.findings.get_mut(known).filter(|f| f.holding && f.first <= low)
        {
            finding.peak = finding.peak.max(counts.total(slot));
            self.findings.mark(known);
            return self.findings.recheck_from(known, low);
        }
        if counts.at_most(slot, low, high) >= self.need {
            self.judge(counts, slot, low, high, &names(), |finding| finding.first >= settled);
        }
    }

    /// An event has come into `pane`, which may lie before or inside findings already open.
    fn shift_counts(&mut self, counts: Reading<'_>, slot: u32, pane: PaneIndex) {
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
