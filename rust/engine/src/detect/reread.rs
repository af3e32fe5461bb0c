//! Reading counts again: what events out of order and conditions judged at the watermark need.

use super::{Bar, Detector};
use crate::finding::{Finding, Opening};
use crate::time::Micros;
use crate::window::{PaneIndex, Reading};
use smallvec::SmallVec;

impl Detector {
    /// Reads the counts of panes `low..=high` again and brings the findings up to them.
    pub(super) fn judge(
        &mut self,
        counts: Reading<'_>,
        slot: u32,
        low: PaneIndex,
        high: PaneIndex,
        names: &[String],
        settle_opening: impl Fn(&Finding) -> bool,
    ) {
        for (first, last, count) in counts.levels(slot, low, high) {
            if !self.meets(count) {
                continue;
            }
            let Some(key) = self.cover(counts, slot, first, last, count, self.bar(), names) else { continue };
            if self.findings.get(key).is_some_and(&settle_opening) {
                self.settle_opening(counts, key);
            }
        }
    }

    /// Works out a finding's opening time anew, where it is not settled yet.
    pub(super) fn settle_opening(&mut self, counts: Reading<'_>, key: u32) {
        let Some(finding) = self.findings.get_mut(key) else { return };
        let (slot, first, need) = (finding.slot, finding.first, finding.bar.need);
        if let Some(time) = counts.reached_at(slot, first, need) {
            finding.opened_at = time;
        } else if self.profiles.is_some()
            && let Some(time) = counts.reached_before(slot, first, need)
        {
            finding.opened_at = finding.opened_at.min(time);
        }
    }

    /// Works off what events out of order left to be read again.
    pub(super) fn recheck(&mut self, counts: Reading<'_>) {
        for (key, low) in self.findings.take_rechecks() {
            let Some(finding) = self.findings.get_mut(key) else { continue };
            let (slot, settle_opening) = (finding.slot, low <= finding.first);
            let head = counts.head(slot).filter(|_| finding.holding);
            let high = head.unwrap_or(finding.last).max(low);
            let peak = counts.segments(slot, low, high).within(low, high).map(|(_, _, count)| count).max();
            finding.peak = finding.peak.max(peak.unwrap_or(0));
            if settle_opening {
                self.settle_opening(counts, key);
            }
        }
    }

    fn meets(&self, count: u64) -> bool {
        if self.judging.is_some() { self.holds.test(count) } else { count >= self.need }
    }

    /// Makes panes `first..=last` part of a finding: of one they join, or of a new one if there is room for it.
    #[allow(clippy::too_many_arguments)] // what a finding begins with
    pub(super) fn cover(
        &mut self,
        counts: Reading<'_>,
        slot: u32,
        first: PaneIndex,
        last: PaneIndex,
        count: u64,
        bar: Bar,
        names: &[String],
    ) -> Option<u32> {
        let head = counts.head(slot).unwrap_or(last);
        let at_head = counts.series().is_none() && last >= head && counts.total(slot) >= self.need;
        let before = |first: PaneIndex| counts.events_through(slot, first.saturating_sub(counts.span));
        let joined: SmallVec<[u32; 2]> = (self.findings.of(slot).into_iter())
            .filter(|&key| self.findings.get(key).is_some_and(|f| f.joins(first, last, head, self.keep)))
            .collect();
        let Some((&into, swallowed)) = joined.split_first() else {
            let has_room = self.has_room_for(slot, count, bar.need);
            return has_room.then(|| {
                self.open(Opening {
                    slot,
                    group: names.to_vec(),
                    first,
                    last,
                    holding: at_head,
                    events_before: before(first),
                    events_through: counts.events_through(slot, last),
                    peak: count,
                    opened_at: self.opened_in(counts, slot, first, bar.need),
                    bar,
                })
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
        if let Some(finding) = self.findings.get_mut(into) {
            if first < finding.first {
                finding.first = first;
                finding.bar = bar;
                finding.events_before = before(first);
            }
            if end > finding.last {
                finding.last = end;
                finding.events_through = counts.events_through(slot, end);
            }
            finding.holding |= holding;
            finding.peak = finding.peak.max(peak);
        }
        self.findings.mark(into);
        Some(into)
    }

    /// When a run that starts with pane `first` opened. Where panes are judged whole, that is the pane's start.
    fn opened_in(&self, counts: Reading<'_>, slot: u32, first: PaneIndex, need: u64) -> Micros {
        let time = if self.judging.is_none() { counts.reached_at(slot, first, need) } else { None };
        let before = || self.profiles.as_ref().and_then(|_| counts.reached_before(slot, first, need));
        let time = time.or_else(before);
        time.unwrap_or_else(|| counts.start_of(first))
    }
}
