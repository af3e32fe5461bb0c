//! Settling: what is decided once a batch, when the watermark has moved, and what is told of it.

use super::{Announced, Detector};
use crate::finding::{Change, ChangeKind, Finding, named};
use crate::window::{PaneIndex, Reading};

impl Detector {
    /// Brings everything up to the watermark, which has come to `pane`, and tells of findings that opened, were
    /// swallowed or are over. Those whose figures changed wait for [`Self::updates`].
    pub(crate) fn settle(&mut self, counts: Reading<'_>, pane: PaneIndex, changes: &mut Vec<Change>) {
        let told = changes.len();
        self.recheck(counts);
        self.judge_final(counts, pane);
        for (finding, into) in self.findings.take_merged() {
            let merged_into = Some(into.to_string());
            changes.push(Change { merged_into, ..self.change(counts, ChangeKind::Merged, &finding) });
        }
        for key in self.findings.take_opened() {
            self.tell(counts, ChangeKind::Opened, key, changes);
        }
        self.announce_before(pane);
        self.close(counts, pane, changes);
        if self.silent {
            changes.truncate(told);
        }
    }

    /// Keeps the openings that nothing can change any more.
    fn announce_before(&mut self, pane: PaneIndex) {
        let Self { id, findings, announced: Some(announced), scale, rule, .. } = self else {
            return self.findings.pass_over_announcing();
        };
        for key in findings.take_announced(pane) {
            announced.extend(findings.get(key).map(|finding| Announced {
                rule: *rule,
                // By where it opens in the end, not by where it first seemed to: that depends on the order in which events
                // came, which after a restart may be another.
                id: named(id, &finding.group, finding.first),
                time: finding.opened_at,
                group: finding.group.clone(),
                peak: scale.number(finding.peak),
            }));
        }
    }

    /// Tells of findings whose figures changed since they were last told of.
    pub(crate) fn updates(&mut self, counts: Reading<'_>, changes: &mut Vec<Change>) {
        let grown = self.findings.take_changed();
        for key in grown.into_iter().filter(|_| !self.silent) {
            self.tell(counts, ChangeKind::Updated, key, changes);
        }
    }

    fn tell(&self, counts: Reading<'_>, kind: ChangeKind, key: u32, changes: &mut Vec<Change>) {
        changes.extend(self.findings.get(key).map(|finding| self.change(counts, kind, finding)));
    }

    fn close(&mut self, counts: Reading<'_>, pane: PaneIndex, changes: &mut Vec<Change>) {
        while let Some(key) = self.findings.pop_due(pane) {
            if let Some(slot) = self.findings.get(key).map(|finding| finding.slot) {
                self.judge_group(counts, slot, pane);
            }
            let Some(finding) = self.findings.get(key) else { continue };
            let over = self.over_at(self.held_through(counts, finding));
            if over > pane {
                self.findings.look_again(key, over);
            } else if let Some(finding) = self.findings.remove(key) {
                changes.push(self.change(counts, ChangeKind::Closed, &finding));
            }
        }
    }

    /// The last pane at which a finding holds if no more events come.
    fn held_through(&self, counts: Reading<'_>, finding: &Finding) -> PaneIndex {
        let stays = counts.stays_at(finding.slot, self.need).filter(|_| finding.holding);
        stays.map_or(finding.last, |pane| pane.max(finding.last))
    }

    fn change(&self, counts: Reading<'_>, kind: ChangeKind, finding: &Finding) -> Change {
        let until = counts.start_of(self.held_through(counts, finding)) + counts.resolution;
        let events = if finding.holding { counts.events(finding.slot) } else { finding.events_through };
        Change {
            kind,
            id: finding.id.to_string(),
            rule: self.rule,
            group: finding.group.clone(),
            opened_at: finding.opened_at,
            closed_at: (kind == ChangeKind::Closed).then_some(until),
            from: counts.start_of(finding.first),
            until,
            peak: self.scale.number(finding.peak),
            threshold: self.scale.number(if finding.bar.need == self.need {
                self.threshold()
            } else {
                finding.bar.need
            }),
            usual: finding.bar.usual,
            count: u64::from(events.wrapping_sub(finding.events_before)),
            merged_into: None,
        }
    }
}
