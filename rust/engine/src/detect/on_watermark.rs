//! Deferred rules, whose condition can cease to hold in a pane when more events arrive: evaluated once per pane, when
//! the watermark has passed it.

use super::Detector;
use super::deferred::DeferredGroup;
use crate::foundation::group_name::GroupName;
use crate::window::{PaneIndex, WindowView};

impl Detector {
    pub(crate) fn is_deferred(&self) -> bool {
        self.deferred.is_some()
    }

    /// Starts to evaluate a new group, from the watermark on. Its names are stored because its events are no longer in
    /// memory when it is evaluated.
    pub(crate) fn track_group(&mut self, counts: WindowView<'_>, slot: u32, names: &GroupName) {
        if let Some(deferred) = &mut self.deferred {
            deferred
                .groups
                .insert(slot, DeferredGroup { names: names.clone(), next: counts.watermark_pane() });
        }
    }

    /// Discards the state of a group that expired or was evicted.
    pub(crate) fn remove_group(&mut self, slot: u32) {
        self.suppressed.remove(&slot);
        if let Some(profiles) = &mut self.profiles {
            profiles.remove_group(slot);
        }
        if let Some(deferred) = &mut self.deferred {
            deferred.groups.remove(&slot);
        }
    }

    /// Schedules evaluation of the panes at which an event in `pane` changes the group's count: `pane`, and the pane at
    /// which it leaves the window.
    #[cold]
    pub(crate) fn schedule_evaluation(&mut self, counts: WindowView<'_>, slot: u32, pane: PaneIndex) {
        if let Some(deferred) = &mut self.deferred {
            // The pane before is due as well. The event can move values out of earlier panes, and only its entry in the
            // lateness buffer records from which. The entry is removed when the watermark has passed the event, so the
            // panes before must be evaluated by then.
            for due in [pane.saturating_sub(1), pane, pane.saturating_add(counts.span)] {
                deferred.due.entry(due).or_default().push(slot);
            }
        }
    }

    /// Evaluates the scheduled panes before `pane`, the new pane of the watermark.
    pub(super) fn evaluate_up_to(&mut self, counts: WindowView<'_>, pane: PaneIndex) {
        let Some(deferred) = &mut self.deferred else { return };
        if pane <= counts.watermark_pane() {
            return;
        }
        let later = deferred.due.split_off(&pane);
        let passed = std::mem::replace(&mut deferred.due, later);
        let mut slots: Vec<u32> = passed.into_values().flatten().collect();
        slots.sort_unstable();
        slots.dedup();
        for slot in slots {
            self.evaluate_group(counts, slot, pane);
        }
    }

    /// Evaluates the group's panes before `pane` that were not evaluated yet.
    pub(super) fn evaluate_group(&mut self, counts: WindowView<'_>, slot: u32, pane: PaneIndex) {
        let group = self.deferred.as_mut().and_then(|deferred| deferred.groups.get_mut(&slot));
        let Some(group) = group.filter(|group| group.next < pane) else { return };
        let low = std::mem::replace(&mut group.next, pane);
        let names = group.names.clone();
        self.reevaluate(counts, slot, low, pane - 1, &names, |_| false);
    }
}
