//! Re-evaluation of past panes, for out-of-order events ([`Detector::out_of_order`]) and for deferred rules
//! ([`super::on_watermark`]).
//!
//! An out-of-order event can create a run of panes before, between or after the group's findings. The run opens a
//! finding, extends one, or merges several into the earliest.

use super::Detector;
use super::finding::{Finding, Opening, Threshold};
use crate::foundation::group_name::GroupName;
use crate::foundation::time::Micros;
use crate::window::{PaneIndex, WindowView};
use smallvec::SmallVec;

impl Detector {
    /// Recomputes the counts of panes `low..=high` and merges the runs in which the condition holds into findings.
    /// `refine_opening_time` tells whether the opening time of a changed finding is recomputed.
    pub(super) fn reevaluate(
        &mut self,
        counts: WindowView<'_>,
        slot: u32,
        low: PaneIndex,
        high: PaneIndex,
        names: &GroupName,
        refine_opening_time: impl Fn(&Finding) -> bool,
    ) {
        for (first, last, count) in counts.levels(slot, low, high) {
            if !self.is_met_by(count) {
                continue;
            }
            let Some(key) =
                self.merge_into_finding(counts, slot, first, last, count, self.fixed_threshold(), names)
            else {
                continue;
            };
            if self.findings.get(key).is_some_and(&refine_opening_time) {
                self.refine_opening_time(counts, key);
            }
        }
    }

    /// Recomputes the opening time of a finding, unless it is final.
    pub(super) fn refine_opening_time(&mut self, counts: WindowView<'_>, key: u32) {
        let Some(finding) = self.findings.get_mut(key) else { return };
        let (slot, first, need) = (finding.slot, finding.first, finding.threshold.need);
        if let Some(time) = counts.reached_at(slot, first, need) {
            finding.opened_at = time;
        } else if self.profiles.is_some()
            && let Some(time) = counts.reached_before(slot, first, need)
        {
            finding.opened_at = finding.opened_at.min(time);
        }
    }

    /// Recomputes the peaks and opening times of the findings that out-of-order events changed, once per batch instead
    /// of once per event.
    pub(super) fn recheck(&mut self, counts: WindowView<'_>) {
        for (key, low) in self.findings.take_rechecks() {
            let Some(finding) = self.findings.get_mut(key) else { continue };
            let (slot, refine_opening_time) = (finding.slot, low <= finding.first);
            let head = counts.head(slot).filter(|_| finding.holding);
            let high = head.unwrap_or(finding.last).max(low);
            let peak = counts.count_steps(slot, low, high).within(low, high).map(|(_, _, count)| count).max();
            finding.peak = finding.peak.max(peak.unwrap_or(0));
            if refine_opening_time {
                self.refine_opening_time(counts, key);
            }
        }
    }

    fn is_met_by(&self, count: u64) -> bool {
        if self.deferred.is_some() { self.holds.test(count) } else { count >= self.need }
    }

    /// Merges the run of panes `first..=last` into the findings it joins, or opens a finding if there is room.
    /// Returns its key.
    #[allow(clippy::too_many_arguments)] // the values of a new finding
    pub(super) fn merge_into_finding(
        &mut self,
        counts: WindowView<'_>,
        slot: u32,
        first: PaneIndex,
        last: PaneIndex,
        count: u64,
        threshold: Threshold,
        names: &GroupName,
    ) -> Option<u32> {
        let head = counts.head(slot).unwrap_or(last);
        let at_head = counts.aggregates().is_none() && last >= head && counts.total(slot) >= self.need;
        let before = |first: PaneIndex| counts.events_through(slot, first.saturating_sub(counts.span));
        let joined: SmallVec<[u32; 2]> = (self.findings.of(slot).into_iter())
            .filter(|&key| self.findings.get(key).is_some_and(|f| f.joins(first, last, head, self.keep)))
            .collect();
        let Some((&into, swallowed)) = joined.split_first() else {
            let has_room = self.has_room_for(slot, count, threshold.need);
            return has_room.then(|| {
                self.open(Opening {
                    slot,
                    group: names.clone(),
                    first,
                    last,
                    holding: at_head,
                    events_before: before(first),
                    events_through: counts.events_through(slot, last),
                    peak: count,
                    opened_at: self.opened_in(counts, slot, first, threshold.need),
                    threshold,
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
                finding.threshold = threshold;
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

    /// Opening time of a run that starts with pane `first`. Rules evaluated at the watermark use the start of the
    /// pane.
    fn opened_in(&self, counts: WindowView<'_>, slot: u32, first: PaneIndex, need: u64) -> Micros {
        let time = if self.deferred.is_none() { counts.reached_at(slot, first, need) } else { None };
        let before = || self.profiles.as_ref().and_then(|_| counts.reached_before(slot, first, need));
        let time = time.or_else(before);
        time.unwrap_or_else(|| counts.start_of(first))
    }
}
