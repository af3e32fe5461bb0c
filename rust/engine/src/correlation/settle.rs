//! Settling: what is done once a batch, when the watermark has moved.

use super::Correlation;
use crate::finding::{Change, ChangeKind, Finding};
use crate::time::Micros;
use crate::window::PaneIndex;

impl Correlation {
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
        for key in self.findings.changed() {
            let Some(finding) = self.findings.get_mut(key) else { continue };
            let (slot, holding, last) = (finding.slot, finding.holding, finding.last);
            if let Some(low) = finding.recheck.take() {
                let settle_opening = low <= finding.first;
                let head = self.groups.get(slot).and_then(|group| group.log.head());
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
        let group = self.groups.get(finding.slot).filter(|_| finding.holding);
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
        let events = match self.groups.get(finding.slot) {
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
        let (settled, span) = (self.settled, self.span);
        self.pairs.sweep(share, |_, last| last.saturating_add(span) <= settled);
        self.recent.shrink();
        let (findings, recent, judging) = (&self.findings, &self.recent, &mut self.judging);
        self.groups.sweep(
            share,
            |slot, group| {
                group.log.head().is_none_or(|head| head.saturating_add(span) < settled)
                    && recent.has_left(group.last_arrival)
                    && !findings.has(slot)
            },
            |slot| {
                if let Some(judging) = judging {
                    judging.groups.remove(&slot);
                }
            },
        );
    }
}
