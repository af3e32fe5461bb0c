//! Judging counts by a baseline: in panes with events, each against what is usual on its day.

use super::baseline::{Bar, Day, Level, Profiles};
use super::{Counted, Detector, NamesOf};
use crate::finding::Opening;
use crate::key::Fingerprint;
use crate::time::Micros;
use crate::window::{Added, PaneIndex, Reading};
use rustc_hash::FxHashMap;

impl Detector {
    /// The profiles of a rule with a baseline.
    pub(crate) fn profiles(&self) -> Option<&Profiles> {
        self.profiles.as_deref()
    }

    /// Takes in that the days before `today` are over, and what was usual among peers on them.
    pub(crate) fn close_days(&mut self, today: Day, levels: &[(Day, FxHashMap<Fingerprint, Level>)]) {
        if let Some(profiles) = &mut self.profiles {
            profiles.close(today, levels);
        }
    }

    /// An event of a rule with a baseline has been counted; `peer` says whose peers its group is among.
    pub(crate) fn follow(
        &mut self,
        counts: Reading<'_>,
        event: Counted,
        added: Added,
        peer: Option<Fingerprint>,
        names: &mut NamesOf<'_>,
    ) {
        let Counted { slot, time, pane, watermark, newest } = event;
        let Some(profiles) = &mut self.profiles else { return };
        if added.in_order {
            profiles.see(slot, time, added.total, peer, newest);
            self.meet(counts, slot, pane, added.total, newest.then_some(time), names);
            return;
        }
        profiles.see(slot, time, 0, peer, newest);
        if self.findings.has(slot) {
            self.shift_counts(counts, slot, pane);
        }
        let low = pane.max(counts.pane(watermark));
        let head = counts.head(slot).unwrap_or(pane);
        let high = head.min(pane.saturating_add(counts.span - 1));
        let segments = counts.segments(slot, low, high);
        for pane in counts.panes_with_events(slot, low, high) {
            let count = segments.within(pane, pane).next().map_or(0, |(_, _, count)| count);
            if let Some(profiles) = &mut self.profiles {
                profiles.see(slot, counts.start_of(pane), count, None, false);
            }
            self.meet(counts, slot, pane, count, None, names);
        }
    }

    /// A pane with events has come to `count`; with the group's newest event at `newest`, if it is that.
    fn meet(
        &mut self,
        counts: Reading<'_>,
        slot: u32,
        pane: PaneIndex,
        count: u64,
        newest: Option<Micros>,
        names: &mut NamesOf<'_>,
    ) {
        let time = counts.start_of(pane);
        let Some(profiles) = &mut self.profiles else { return };
        if count < profiles.floor() {
            return profiles.came_below(time, count);
        }
        let Some(bar) = profiles.bar(slot, time) else { return };
        profiles.came(time, count, bar);
        if count < bar.need {
            return;
        }
        if let Some(opened_at) = newest {
            self.extend_or_open(counts, slot, pane, count, bar, opened_at, names);
            return;
        }
        if let Some(key) = self.cover(counts, slot, pane, pane, count, bar, &names()) {
            if let Some(finding) = self.findings.get_mut(key) {
                finding.events_through = counts.events_through(slot, finding.last);
            }
            self.settle_opening(counts, key);
        }
    }

    /// The pane of a group's newest event holds.
    #[allow(clippy::too_many_arguments)] // what a finding begins with
    fn extend_or_open(
        &mut self,
        counts: Reading<'_>,
        slot: u32,
        pane: PaneIndex,
        count: u64,
        bar: Bar,
        opened_at: Micros,
        names: &mut NamesOf<'_>,
    ) {
        let (keep, events) = (self.keep, counts.events(slot));
        if let Some(known) = self.findings.newest(slot)
            && let Some(finding) = self.findings.get_mut(known).filter(|f| f.joins(pane, pane, pane, keep))
        {
            finding.last = finding.last.max(pane);
            finding.peak = finding.peak.max(count);
            finding.events_through = events;
            self.findings.mark(known);
            return;
        }
        if !self.has_room_for(slot, count, bar.need) {
            return;
        }
        self.open(Opening {
            slot,
            group: names(),
            first: pane,
            last: pane,
            holding: false,
            events_before: events.wrapping_sub(counts.events_in_window(slot)),
            events_through: events,
            peak: count,
            opened_at,
            bar,
        });
    }
}
