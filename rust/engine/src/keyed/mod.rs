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
use crate::key::Fingerprint;
use crate::plan::RulePlan;
use crate::time::Micros;
use crate::watermark::StreamClock;
use crate::window::{Added, Counts};
use groups::Groups;
use intake::{NO_SLOT, Values, Work};

pub(crate) use intake::{Intake, Names, StreamSpec};

/// How many events go from stage to stage of counting together: enough for memory to come, few enough that it is still
/// in the first cache when it is used.
const BLOCK: usize = 8;

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
    /// Events go through four stages, a block of them in each, and each stage asks for the memory the next one reads:
    /// so it has come when it is needed, and is asked for while others are being counted.
    pub(crate) fn count(&mut self, intake: &mut Intake, clock: StreamClock, names: &mut Names<'_>) {
        let Intake { work, values } = intake;
        let blocks = work.len().div_ceil(BLOCK);
        for at in 0..blocks + 3 {
            if let Some(block) = block(work, Some(at)) {
                for one in &*block {
                    self.groups.prefetch(one.print);
                }
            }
            if let Some(block) = block(work, at.checked_sub(1)) {
                self.look_up(block, values);
            }
            if let Some(block) = block(work, at.checked_sub(2)) {
                self.look_further(block, values, names);
            }
            if let Some(block) = block(work, at.checked_sub(3)) {
                for window in &mut self.windows {
                    for one in &*block {
                        let watermark = clock.watermark_after(one.newest);
                        window.count(one, watermark, values, &mut || names.of(one, &self.group_by));
                    }
                }
            }
        }
        intake.clear();
    }

    /// Finds the groups that are known.
    fn look_up(&self, block: &mut [Work], values: &Values) {
        for one in block {
            if let Some(slot) = self.groups.find(one.print) {
                one.slot = slot;
                for window in &self.windows {
                    window.counts.prefetch(slot, window.values(values, one));
                }
            }
        }
    }

    /// Makes the groups that are new, and asks for what lies outside of a group.
    fn look_further(&mut self, block: &mut [Work], values: &Values, names: &mut Names<'_>) {
        for one in block {
            if one.slot == NO_SLOT {
                one.slot = self.slot(one, names);
                for window in &self.windows {
                    window.counts.prefetch(one.slot, window.values(values, one));
                }
            } else {
                self.windows.iter().for_each(|window| window.counts.prefetch_panes(one.slot));
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

/// The `at`th block, if there is one.
#[inline]
fn block(work: &mut [Work], at: Option<usize>) -> Option<&mut [Work]> {
    let from = at? * BLOCK;
    let to = work.len().min(from + BLOCK);
    (from < to).then(|| &mut work[from..to])
}

/// A window is not done with a group.
struct StillNeeded;

impl Window {
    /// The values an event has for this window.
    #[inline]
    fn values<'v>(&self, values: &'v Values, work: &Work) -> &'v [Fingerprint] {
        self.counted.map_or(&[], |field| values.of(work, field))
    }

    /// Counts an event in its group.
    #[inline]
    fn count(&mut self, work: &Work, watermark: Micros, values: &Values, names: &mut NamesOf<'_>) {
        let values = self.values(values, work);
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
