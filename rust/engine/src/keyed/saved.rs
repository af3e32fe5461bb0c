//! Saving and loading a keyed stream as one part of a snapshot (keyed state in a savepoint, in Flink's terms), also
//! under a plan that changed since the save.

use super::KeyedStream;
use super::groups::Groups;
use super::mapping::{OrphanedFinding, WindowMapping};
use super::novelty::NoveltyState;
use crate::detect::{BaselineState, Detector, RetiredRule};
use crate::foundation::codec::{Damaged, StateReader, StateWriter};
use crate::foundation::time::Micros;
use crate::plan::MeasurePlan;
use crate::window::{Aggregates, Counts, LatenessBuffer};
use uuid::Uuid;

impl KeyedStream {
    /// Saves the stream between two batches; `watermark` is the engine's watermark after the last batch.
    pub(crate) fn save(&self, watermark: Micros, to: &mut StateWriter) {
        to.i64(self.own_watermark(watermark));
        to.list(self.counted_openings.iter(), |to, (id, time)| {
            to.raw(id.into_bytes());
            to.i64(*time);
        });
        to.flag(self.novelty.is_some());
        if let Some(novelty) = &self.novelty {
            novelty.save(to);
        }
        self.groups.save(to);
        self.recent.save(to);
        for window in &self.windows {
            to.flag(window.aggregates.is_some());
            window.counts.save(to);
            window.detectors.iter().for_each(|detector| detector.save(to));
        }
        for slot in 0..self.groups.slots() {
            let states = self.states.get(slot).unwrap_or_default();
            if let Some(first) = states.first() {
                to.i64(first.newest);
                to.u32(first.last_arrival);
            }
            for (window, state) in self.windows.iter().zip(states) {
                state.save(to);
                window.aggregates.iter().for_each(|aggregates| aggregates.save(slot, to));
            }
        }
    }

    /// Loads a saved stream into this one, which must be empty. `mappings` tells where each saved window goes.
    /// Returns the open findings of rules that changed or were removed.
    pub(crate) fn load(
        &mut self,
        from: &mut StateReader<'_>,
        mappings: &[WindowMapping],
    ) -> Result<Vec<OrphanedFinding>, Damaged> {
        self.min_watermark = from.i64()?;
        let opening = |from: &mut StateReader<'_>| Ok((Uuid::from_bytes(from.raw()?), from.i64()?));
        self.counted_openings = from.list::<_, Vec<_>>(24, opening)?.into_iter().collect();
        if from.flag()? {
            let memory = NoveltyState::load(from)?;
            if let Some(novelty) = &mut self.novelty {
                novelty.resume_from(memory);
            }
        }
        self.groups = Groups::load(from)?;
        self.recent = LatenessBuffer::load(from)?;
        for window in &mut self.windows {
            window.counts.count_from(self.recent.next());
        }
        let mut orphans = Vec::new();
        let mut discarded: Vec<(Counts, Option<Aggregates>)> = Vec::new();
        for mapping in mappings {
            let window = mapping.place.and_then(|place| self.windows.get_mut(place));
            let has_aggregates = from.flag()?;
            let Some(window) = window else {
                let counts = Counts::new(1, mapping.resolution, false, 0).load(from)?;
                discarded.push((counts, has_aggregates.then(|| Aggregates::new(&MeasurePlan::InOrder, 1))));
                for _ in &mapping.detectors {
                    orphans.extend(load_orphaned(from, mapping.resolution)?.0);
                }
                continue;
            };
            if has_aggregates != window.aggregates.is_some() {
                return Err(Damaged("a window has another measure"));
            }
            window.counts = window.counts.load(from)?;
            for (kept, days) in mapping.detectors.iter().zip(&mapping.days) {
                if let Some(detector) = kept.and_then(|at| window.detectors.get_mut(at)) {
                    detector.load(from)?;
                    continue;
                }
                let (mut ended, baseline) = load_orphaned(from, mapping.resolution)?;
                orphans.append(&mut ended);
                if let Some(detector) = days.and_then(|at| window.detectors.get_mut(at)) {
                    detector.resume_from(baseline);
                }
            }
        }
        self.load_states(from, mappings, &mut discarded)?;
        Ok(orphans)
    }

    fn load_states(
        &mut self,
        from: &mut StateReader<'_>,
        mappings: &[WindowMapping],
        discarded: &mut [(Counts, Option<Aggregates>)],
    ) -> Result<(), Damaged> {
        for slot in 0..self.groups.slots() {
            self.states.reach(slot);
            let (newest, last_arrival) = (from.i64()?, from.u32()?);
            let states = self.states.get_mut(slot).unwrap_or_default();
            let mut discarded = discarded.iter_mut();
            for mapping in mappings {
                if let Some(place) = mapping.place
                    && let (Some(window), Some(state)) = (self.windows.get_mut(place), states.get_mut(place))
                {
                    *state = window.counts.load_state(from)?;
                    window.counts.add_loaded(state);
                    if let Some(aggregates) = &mut window.aggregates {
                        aggregates.load(slot, from)?;
                    }
                } else if let Some((counts, aggregates)) = discarded.next() {
                    counts.load_state(from)?;
                    aggregates.iter_mut().try_for_each(|aggregates| aggregates.load(0, from))?;
                }
            }
            if let Some(first) = states.first_mut() {
                (first.newest, first.last_arrival) = (newest, last_arrival);
            }
        }
        Ok(())
    }
}

fn load_orphaned(
    from: &mut StateReader<'_>,
    resolution: Micros,
) -> Result<(Vec<OrphanedFinding>, Option<BaselineState>), Damaged> {
    let RetiredRule { findings, baseline } = Detector::load_retired(from)?;
    let orphan =
        |(id, last)| OrphanedFinding { id, held_until: (Micros::from(last) + 1).saturating_mul(resolution) };
    Ok((findings.into_iter().map(orphan).collect(), baseline))
}
