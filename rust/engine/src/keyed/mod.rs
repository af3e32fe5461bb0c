//! A keyed stream: the events that meet one condition, by group; and the windows that count them.
//!
//! Rules with the same condition and `group-by` share one stream, so an event is matched and its group is found
//! once for all of them. Among these, rules with the same timespan, resolution and counted field share one
//! window: they differ only in what they decide.

mod groups;
mod intake;

use crate::detect::{Counted, Detector, NamesOf};
use crate::field::FieldId;
use crate::finding::Change;
use crate::plan::RulePlan;
use crate::time::Micros;
use crate::watermark::StreamClock;
use crate::window::{Added, Counts};
use groups::Groups;
use intake::{NO_SLOT, Work};

pub(crate) use intake::{Intake, Names, StreamSpec};

/// How many events lie between two stages of counting: enough for memory to come, few enough that it is still in the
/// first cache when it is used.
const AHEAD: usize = 8;

/// One window over the stream and the rules that decide by its counts.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) counts: Counts,
    pub(crate) detectors: Vec<Detector>,
    /// The counted field's place among the stream's; `None` counts events.
    counted: Option<usize>,
    /// The least count any detector needs.
    floor: u64,
    judging: bool,
}

/// A shard's part of a keyed stream.
#[derive(Debug)]
pub(crate) struct KeyedStream {
    group_by: Vec<FieldId>,
    groups: Groups,
    pub(crate) windows: Vec<Window>,
}

impl KeyedStream {
    pub(crate) fn new(spec: &StreamSpec) -> Self {
        Self { group_by: spec.group_by.clone(), groups: Groups::default(), windows: Vec::new() }
    }

    /// Adds a rule, to a window that counts what it needs or to one of its own. `counted` is the place of the field
    /// whose values it counts among the stream's.
    pub(crate) fn add(&mut self, plan: &RulePlan, rule: usize, counted: Option<usize>) {
        let span = (plan.timespan_ms / plan.resolution_ms) as u32;
        let resolution = plan.resolution_ms as Micros * 1000;
        let detector = Detector::new(plan, rule);
        let same = |window: &&mut Window| {
            (window.counts.span, window.counts.resolution, window.counted) == (span, resolution, counted)
        };
        if let Some(window) = self.windows.iter_mut().find(same) {
            window.floor = window.floor.min(detector.need);
            window.judging |= detector.is_judging();
            window.detectors.push(detector);
        } else {
            self.windows.push(Window {
                counts: Counts::new(span, resolution, counted.is_some()),
                counted,
                floor: detector.need,
                judging: detector.is_judging(),
                detectors: vec![detector],
            });
        }
    }

    pub(crate) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Counts what was taken in of a piece; `clock` is as it stood before it.
    ///
    /// Each event is at four stages in turn, [`AHEAD`] events apart, and each stage asks for the memory the next one
    /// reads: so it has come when it is needed, and is asked for while others are being counted.
    pub(crate) fn count(&mut self, intake: &mut Intake, clock: StreamClock, names: &mut Names<'_>) {
        let works = intake.work.len();
        for at in 0..works + 3 * AHEAD {
            let stage = |behind: usize| at.checked_sub(behind * AHEAD).filter(|&at| at < works);
            if let Some(at) = stage(0) {
                self.groups.prefetch(intake.work[at].print);
            }
            if let Some(at) = stage(1) {
                self.look_up(intake, at);
            }
            if let Some(at) = stage(2) {
                let one = &mut intake.work[at];
                if one.slot == NO_SLOT {
                    one.slot = self.slot(one, names);
                }
                self.windows.iter().for_each(|window| window.counts.prefetch_panes(one.slot));
            }
            if let Some(at) = stage(3) {
                let one = &intake.work[at];
                let watermark = clock.watermark_after(one.newest);
                for window in &mut self.windows {
                    window.count(one, watermark, intake, &mut || names.of(one, &self.group_by));
                }
            }
        }
        intake.clear();
    }

    #[inline]
    fn look_up(&self, intake: &mut Intake, at: usize) {
        let one = intake.work[at];
        if let Some(slot) = self.groups.find(one.print) {
            intake.work[at].slot = slot;
            for window in &self.windows {
                window.counts.prefetch(slot, window.values(intake, &one));
            }
        }
    }

    /// The slot of a group, which may be new.
    #[cold]
    fn slot(&mut self, work: &Work, names: &mut Names<'_>) -> u32 {
        let (slot, is_new) = self.groups.find_or_add(work.print);
        if is_new {
            for window in &mut self.windows {
                window.counts.open(slot);
                if window.judging {
                    let names = names.of(work, &self.group_by);
                    for detector in &mut window.detectors {
                        detector.start_judging(&window.counts, slot, &names);
                    }
                }
            }
        }
        slot
    }

    /// Brings everything up to the watermark at the end of a batch and tells what came of it.
    pub(crate) fn settle(&mut self, watermark: Micros, changes: &mut Vec<Change>) {
        // A group is done with when the longest window is, so that one sets the pace.
        let mut share: f64 = 1.0;
        for Window { counts, detectors, .. } in &mut self.windows {
            let pane = counts.pane(watermark);
            for detector in detectors {
                detector.settle(counts, pane, changes);
            }
            share = share.min(counts.settle(watermark));
        }
        if share > 0.0 {
            let windows = &mut self.windows;
            self.groups.sweep(share, |slot| {
                // Every window is asked: one that is done with the group lets go of its part at once.
                let waiting = windows.iter_mut().filter_map(|window| window.let_go(slot).err()).count();
                if waiting == 0 {
                    let detectors = windows.iter_mut().flat_map(|window| &mut window.detectors);
                    detectors.for_each(|detector| detector.forget(slot));
                }
                waiting == 0
            });
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.groups.heap_bytes() + self.windows.iter().map(|window| window.counts.heap_bytes()).sum::<usize>()
    }
}

/// A window is not done with a group.
struct StillNeeded;

impl Window {
    /// The values an event has for this window.
    #[inline]
    fn values<'i>(&self, intake: &'i Intake, work: &Work) -> &'i [u64] {
        self.counted.map_or(&[], |field| intake.values(work, field))
    }

    /// Counts an event in its group.
    #[inline]
    fn count(&mut self, work: &Work, watermark: Micros, intake: &Intake, names: &mut NamesOf<'_>) {
        let values = self.values(intake, work);
        let Self { counts, detectors, floor, judging, .. } = self;
        let Work { slot, time, .. } = *work;
        let added = counts.add(slot, (time, watermark), values, *floor, |last, before, after, events| {
            for detector in &mut *detectors {
                detector.fell(slot, last, before, after, events);
            }
        });
        let Some(Added { pane, total, newest, in_order, new_pane }) = added else { return };
        if *judging && new_pane {
            for detector in &mut *detectors {
                detector.changes_at(counts, slot, pane);
            }
        }
        let event = Counted { slot, time, pane, watermark, newest };
        if !in_order {
            for detector in detectors {
                detector.out_of_order(counts, event, names);
            }
        } else if total >= *floor {
            for detector in detectors.iter_mut().filter(|detector| total >= detector.need) {
                detector.hold(counts, event, names);
            }
        }
    }

    /// Forgets a group that no window can reach and no finding needs.
    fn let_go(&mut self, slot: u32) -> Result<(), StillNeeded> {
        if !self.counts.is_over(slot) || self.detectors.iter().any(|detector| detector.has(slot)) {
            return Err(StillNeeded);
        }
        self.counts.clear(slot);
        Ok(())
    }
}
