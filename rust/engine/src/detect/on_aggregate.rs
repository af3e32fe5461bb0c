//! Rules on an aggregate that more events can only raise (sums, sequences): evaluated on each event, in the panes whose
//! windows contain it.

use super::{CountedEvent, Detector, NameLookup};
use crate::foundation::group_name::GroupName;
use crate::window::{CountUpdate, WindowView};

impl Detector {
    /// Called for an event after which the aggregate may meet the condition. A deferred rule only updates the event
    /// counters of its findings.
    pub(crate) fn on_aggregate(
        &mut self,
        counts: WindowView<'_>,
        event: CountedEvent,
        added: CountUpdate,
        names: &mut NameLookup<'_>,
    ) {
        let CountedEvent { slot, pane, watermark, .. } = event;
        if !added.in_order && self.findings.has(slot) {
            self.shift_counts(counts, slot, pane);
        }
        if self.deferred.is_some() {
            return;
        }
        let watermark_pane = counts.pane(watermark);
        let low = pane.max(watermark_pane);
        if added.in_order {
            self.extend_or_open_run(counts, event, names);
        } else {
            let high = pane.saturating_add(counts.span - 1);
            if counts.levels(slot, low, high).iter().any(|&(_, _, level)| level >= self.need) {
                self.reevaluate(counts, slot, low, high, &names(), |finding| finding.first >= watermark_pane);
            }
        }
    }

    /// Evaluates the group's newest pane. If the condition holds, the run extends to the last pane in which it would
    /// hold without further events.
    fn extend_or_open_run(
        &mut self,
        counts: WindowView<'_>,
        event: CountedEvent,
        names: &mut NameLookup<'_>,
    ) {
        let CountedEvent { slot, pane, newest, .. } = event;
        let Some(aggregates) = counts.aggregates() else { return };
        let level = aggregates.level(slot, pane);
        if level < self.need {
            return;
        }
        let last = aggregates.stays(slot, pane, self.need);
        let joins = |key: &u32| self.findings.get(*key).is_some_and(|f| f.joins(pane, last, pane, self.keep));
        let group = if self.findings.of(slot).iter().any(joins) { GroupName::default() } else { names() };
        let Some(key) =
            self.merge_into_finding(counts, slot, pane, last, level, self.fixed_threshold(), &group)
        else {
            return;
        };
        let Some(finding) = self.findings.get_mut(key) else { return };
        finding.events_through = counts.events_through(slot, finding.last);
        if !newest && finding.first == pane {
            self.refine_opening_time(counts, key);
        }
    }
}
