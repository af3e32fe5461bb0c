//! Advancing the watermark: evaluates deferred panes, publishes final openings, closes findings and collects the
//! changes of findings, once per batch.

use super::finding::{Change, ChangeKind, Finding, named};
use super::{Detector, FinalOpening};
use crate::window::{PaneIndex, WindowView};

impl Detector {
    /// Advances the detector to watermark pane `pane` and appends the findings that opened, were merged or closed.
    /// Findings whose values changed are reported by [`Self::updates`].
    pub(crate) fn advance_watermark(
        &mut self,
        counts: WindowView<'_>,
        pane: PaneIndex,
        changes: &mut Vec<Change>,
    ) {
        let reported = changes.len();
        self.recheck(counts);
        self.evaluate_up_to(counts, pane);
        for (finding, into) in self.findings.take_merged() {
            let merged_into = Some(into.to_string());
            changes.push(Change { merged_into, ..self.change(counts, ChangeKind::Merged, &finding) });
        }
        for key in self.findings.take_opened() {
            self.report(counts, ChangeKind::Opened, key, changes);
        }
        self.publish_openings_before(pane);
        self.close(counts, pane, changes);
        if self.silent {
            changes.truncate(reported);
        }
    }

    /// Collects the openings that no further event can change.
    fn publish_openings_before(&mut self, pane: PaneIndex) {
        let Self { id, findings, published: Some(published), scale, rule, .. } = self else {
            return self.findings.skip_unpublished();
        };
        for key in findings.take_final(pane) {
            published.extend(findings.get(key).map(|finding| FinalOpening {
                rule: *rule,
                // Not the id of the finding: this one is computed from the final opening pane. The pane in which the
                // finding first opened depends on the arrival order, which can differ after a restore.
                id: named(id, finding.group.key(), finding.first),
                time: finding.opened_at,
                group: finding.group.clone(),
                peak: scale.decode(finding.peak),
            }));
        }
    }

    /// Appends the findings whose values changed since they were last reported.
    pub(crate) fn updates(&mut self, counts: WindowView<'_>, changes: &mut Vec<Change>) {
        let grown = self.findings.take_changed();
        for key in grown.into_iter().filter(|_| !self.silent) {
            self.report(counts, ChangeKind::Updated, key, changes);
        }
    }

    fn report(&self, counts: WindowView<'_>, kind: ChangeKind, key: u32, changes: &mut Vec<Change>) {
        changes.extend(self.findings.get(key).map(|finding| self.change(counts, kind, finding)));
    }

    fn close(&mut self, counts: WindowView<'_>, pane: PaneIndex, changes: &mut Vec<Change>) {
        while let Some(key) = self.findings.pop_due(pane) {
            if let Some(slot) = self.findings.get(key).map(|finding| finding.slot) {
                self.evaluate_group(counts, slot, pane);
            }
            let Some(finding) = self.findings.get(key) else { continue };
            let over = self.over_at(self.held_through(counts, finding));
            if over > pane {
                self.findings.reschedule(key, over);
            } else if let Some(finding) = self.findings.remove(key) {
                changes.push(self.change(counts, ChangeKind::Closed, &finding));
            }
        }
    }

    /// Last pane in which the finding holds if no further event arrives.
    fn held_through(&self, counts: WindowView<'_>, finding: &Finding) -> PaneIndex {
        let stays = counts.stays_at(finding.slot, self.need).filter(|_| finding.holding);
        stays.map_or(finding.last, |pane| pane.max(finding.last))
    }

    fn change(&self, counts: WindowView<'_>, kind: ChangeKind, finding: &Finding) -> Change {
        let until = counts.start_of(self.held_through(counts, finding)) + counts.resolution;
        let events = if finding.holding { counts.events(finding.slot) } else { finding.events_through };
        Change {
            kind,
            id: finding.id.to_string(),
            rule: self.rule,
            group: finding.group.written().to_vec(),
            key: finding.group.key().to_vec(),
            opened_at: finding.opened_at,
            closed_at: (kind == ChangeKind::Closed).then_some(until),
            from: counts.start_of(finding.first),
            until,
            peak: self.scale.decode(finding.peak),
            threshold: self.scale.decode(if finding.threshold.need == self.need {
                self.displayed_threshold()
            } else {
                finding.threshold.need
            }),
            expected: finding.threshold.expected,
            count: u64::from(events.wrapping_sub(finding.events_before)),
            merged_into: None,
        }
    }
}
