//! Rules with a baseline: evaluated on each event, in panes with events, each pane against the threshold of its day.
//!
//! [`super::baseline`] computes the thresholds.

use super::baseline::{PeerStats, Profiles};
use super::finding::{Opening, Threshold};
use super::{CountedEvent, Detector, NameLookup};
use crate::foundation::calendar::Day;
use crate::foundation::fingerprint::Fingerprint;
use crate::foundation::time::Micros;
use crate::window::{CountUpdate, PaneIndex, WindowView};
use rustc_hash::FxHashMap;

impl Detector {
    /// The profiles, if the rule has a baseline.
    pub(crate) fn profiles(&self) -> Option<&Profiles> {
        self.profiles.as_deref()
    }

    /// Closes the days before `today` and stores their peer statistics.
    pub(crate) fn close_days(&mut self, today: Day, levels: &[(Day, FxHashMap<Fingerprint, PeerStats>)]) {
        if let Some(profiles) = &mut self.profiles {
            profiles.close(today, levels);
        }
    }

    /// Records an event and evaluates the panes it changed; `peer` is the group's peer group.
    pub(crate) fn on_baseline_event(
        &mut self,
        counts: WindowView<'_>,
        event: CountedEvent,
        added: CountUpdate,
        peer: Option<Fingerprint>,
        names: &mut NameLookup<'_>,
    ) {
        let CountedEvent { slot, time, pane, watermark, newest } = event;
        let Some(profiles) = &mut self.profiles else { return };
        if added.in_order {
            profiles.record(slot, time, added.total, peer, newest);
            self.check_pane(counts, slot, pane, added.total, newest.then_some(time), names);
            return;
        }
        // The counts of the changed panes are recorded below; this records the day and the peer group.
        profiles.record(slot, time, 0, peer, newest);
        if self.findings.has(slot) {
            self.shift_counts(counts, slot, pane);
        }
        let watermark_pane = counts.pane(watermark);
        let head = counts.head(slot).unwrap_or(pane);
        // If the group has no pane from the watermark on, its newest pane is evaluated.
        let low = pane.max(watermark_pane).min(head);
        let high = head.min(pane.saturating_add(counts.span - 1));
        let steps = counts.count_steps(slot, low, high);
        for pane in counts.panes_with_events(slot, low, high) {
            let count = steps.within(pane, pane).next().map_or(0, |(_, _, count)| count);
            if let Some(profiles) = self.profiles.as_mut().filter(|_| pane >= watermark_pane) {
                profiles.record(slot, counts.start_of(pane), count, None, false);
            }
            self.check_pane(counts, slot, pane, count, None, names);
        }
    }

    /// Evaluates a pane with events and count `count`; `newest` is the time of the event if it is in order and the
    /// group's newest.
    fn check_pane(
        &mut self,
        counts: WindowView<'_>,
        slot: u32,
        pane: PaneIndex,
        count: u64,
        newest: Option<Micros>,
        names: &mut NameLookup<'_>,
    ) {
        let time = counts.start_of(pane);
        let Some(profiles) = &mut self.profiles else { return };
        if count < profiles.floor() {
            return profiles.note_below_floor(time, count);
        }
        let Some(threshold) = profiles.threshold(slot, time) else { return };
        profiles.note_ratio(time, count, threshold);
        if count < threshold.need {
            return;
        }
        if let Some(opened_at) = newest {
            self.extend_or_open(counts, slot, pane, count, threshold, opened_at, names);
            return;
        }
        if let Some(key) = self.merge_into_finding(counts, slot, pane, pane, count, threshold, &names()) {
            if let Some(finding) = self.findings.get_mut(key) {
                finding.events_through = counts.events_through(slot, finding.last);
            }
            self.refine_opening_time(counts, key);
        }
    }

    /// Extends the group's finding by the pane of its newest event, or opens a finding.
    #[allow(clippy::too_many_arguments)] // the values of a new finding
    fn extend_or_open(
        &mut self,
        counts: WindowView<'_>,
        slot: u32,
        pane: PaneIndex,
        count: u64,
        threshold: Threshold,
        opened_at: Micros,
        names: &mut NameLookup<'_>,
    ) {
        let (keep, events) = (self.keep, counts.events(slot));
        if let Some(key) = self.findings.newest(slot)
            && let Some(finding) = self.findings.get_mut(key).filter(|f| f.joins(pane, pane, pane, keep))
        {
            finding.last = finding.last.max(pane);
            finding.peak = finding.peak.max(count);
            finding.events_through = events;
            self.findings.mark(key);
            return;
        }
        if !self.has_room_for(slot, count, threshold.need) {
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
            threshold,
        });
    }
}
