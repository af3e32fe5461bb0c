//! Deciding by a measure that grows with its events: at once, in the panes an event has reached.

use super::{Counted, Detector, NamesOf};
use crate::window::{Added, Reading};

impl Detector {
    /// An event has been measured.
    pub(crate) fn measure(
        &mut self,
        counts: Reading<'_>,
        event: Counted,
        added: Added,
        names: &mut NamesOf<'_>,
    ) {
        let Counted { slot, pane, watermark, .. } = event;
        if !added.in_order && self.findings.has(slot) {
            self.shift_counts(counts, slot, pane);
        }
        if self.judging.is_some() {
            return;
        }
        let settled = counts.pane(watermark);
        let low = pane.max(settled);
        if added.in_order {
            self.reach(counts, event, names);
        } else {
            let high = pane.saturating_add(counts.span - 1);
            if counts.levels(slot, low, high).iter().any(|&(_, _, level)| level >= self.need) {
                self.judge(counts, slot, low, high, &names(), |finding| finding.first >= settled);
            }
        }
    }

    /// The window that ends with a group's newest pane may hold now, and for some panes on.
    fn reach(&mut self, counts: Reading<'_>, event: Counted, names: &mut NamesOf<'_>) {
        let Counted { slot, pane, newest, .. } = event;
        let Some(series) = counts.series() else { return };
        let level = series.level(slot, pane);
        if level < self.need {
            return;
        }
        let last = series.stays(slot, pane, self.need);
        let joins = |key: &u32| self.findings.get(*key).is_some_and(|f| f.joins(pane, last, pane, self.keep));
        let group = if self.findings.of(slot).iter().any(joins) { Vec::new() } else { names() };
        let Some(key) = self.cover(counts, slot, pane, last, level, self.bar(), &group) else { return };
        let Some(finding) = self.findings.get_mut(key) else { return };
        finding.events_through = counts.events_through(slot, finding.last);
        if !newest && finding.first == pane {
            self.settle_opening(counts, key);
        }
    }
}
