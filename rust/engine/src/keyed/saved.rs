//! A keyed stream written down, and taken up again under a plan that may have changed since.

use super::KeyedStream;
use super::sieve::Memory;
use crate::codec::{Damaged, Reader, Writer};
use crate::detect::{Detector, Gone, Known};
use crate::plan::MeasurePlan;
use crate::time::Micros;
use crate::window::{Arrivals, Counts, Series};
use uuid::Uuid;

/// What becomes of a saved window.
#[derive(Debug)]
pub(crate) struct WindowFate {
    pub(crate) resolution: Micros,
    /// Its place in the stream that takes it over, if a rule still needs it.
    pub(crate) place: Option<usize>,
    /// By saved detector: its place in the window, if its rule is still the same.
    pub(crate) detectors: Vec<Option<usize>>,
    /// By saved detector: the place of the one that goes on with its days.
    pub(crate) days: Vec<Option<usize>>,
}

/// An open finding of a rule that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// The finding's id.
    pub id: String,
    /// The end of the last pane at which it is known to have held.
    pub held_until: Micros,
}

impl KeyedStream {
    /// Writes the stream down as it stands between two batches, the last of which left the watermark at `watermark`.
    pub(crate) fn save(&self, watermark: Micros, to: &mut Writer) {
        to.i64(self.own_watermark(watermark));
        to.list(self.heard.iter(), |to, (id, time)| {
            to.raw(id.into_bytes());
            to.i64(*time);
        });
        to.flag(self.sieve.is_some());
        if let Some(sieve) = &self.sieve {
            sieve.save(to);
        }
        self.groups.save(to);
        self.arrivals.save(to);
        for window in &self.windows {
            to.flag(window.series.is_some());
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
                window.series.iter().for_each(|series| series.save(slot, to));
            }
        }
    }

    /// Takes up what was saved of windows with these fates; the stream itself is still as new. Returns the open findings of
    /// rules that are gone.
    pub(crate) fn load(
        &mut self,
        from: &mut Reader<'_>,
        fates: &[WindowFate],
    ) -> Result<Vec<Orphan>, Damaged> {
        self.floor = from.i64()?;
        let opening = |from: &mut Reader<'_>| Ok((Uuid::from_bytes(from.raw()?), from.i64()?));
        self.heard = from.list::<_, Vec<_>>(24, opening)?.into_iter().collect();
        if from.flag()? {
            let memory = Memory::load(from)?;
            if let Some(sieve) = &mut self.sieve {
                sieve.go_on_from(memory);
            }
        }
        self.groups = super::Groups::load(from)?;
        self.arrivals = Arrivals::load(from)?;
        for window in &mut self.windows {
            window.counts.begin_with(self.arrivals.next());
        }
        let mut orphans = Vec::new();
        let mut unneeded: Vec<(Counts, Option<Series>)> = Vec::new();
        for fate in fates {
            let window = fate.place.and_then(|place| self.windows.get_mut(place));
            let has_series = from.flag()?;
            let Some(window) = window else {
                let counts = Counts::new(1, fate.resolution, false, 0).load(from)?;
                unneeded.push((counts, has_series.then(|| Series::new(&MeasurePlan::InOrder, 1))));
                for _ in &fate.detectors {
                    orphans.extend(orphaned(from, fate.resolution)?.0);
                }
                continue;
            };
            if has_series != window.series.is_some() {
                return Err(Damaged("a window measures something else"));
            }
            window.counts = window.counts.load(from)?;
            for (kept, days) in fate.detectors.iter().zip(&fate.days) {
                if let Some(detector) = kept.and_then(|at| window.detectors.get_mut(at)) {
                    detector.load(from)?;
                    continue;
                }
                let (mut gone, known) = orphaned(from, fate.resolution)?;
                orphans.append(&mut gone);
                if let Some(detector) = days.and_then(|at| window.detectors.get_mut(at)) {
                    detector.go_on_from(known);
                }
            }
        }
        self.load_states(from, fates, &mut unneeded)?;
        Ok(orphans)
    }

    fn load_states(
        &mut self,
        from: &mut Reader<'_>,
        fates: &[WindowFate],
        unneeded: &mut [(Counts, Option<Series>)],
    ) -> Result<(), Damaged> {
        for slot in 0..self.groups.slots() {
            self.states.reach(slot);
            let (newest, last_arrival) = (from.i64()?, from.u32()?);
            let states = self.states.get_mut(slot).unwrap_or_default();
            let mut unneeded = unneeded.iter_mut();
            for fate in fates {
                if let Some(place) = fate.place
                    && let (Some(window), Some(state)) = (self.windows.get_mut(place), states.get_mut(place))
                {
                    *state = window.counts.load_state(from)?;
                    window.counts.hold(state);
                    if let Some(series) = &mut window.series {
                        series.load(slot, from)?;
                    }
                } else if let Some((counts, series)) = unneeded.next() {
                    counts.load_state(from)?;
                    series.iter_mut().try_for_each(|series| series.load(0, from))?;
                }
            }
            if let Some(first) = states.first_mut() {
                (first.newest, first.last_arrival) = (newest, last_arrival);
            }
        }
        Ok(())
    }
}

fn orphaned(from: &mut Reader<'_>, resolution: Micros) -> Result<(Vec<Orphan>, Option<Known>), Damaged> {
    let Gone { findings, known } = Detector::pass_over(from)?;
    let orphan = |(id, last)| Orphan { id, held_until: (Micros::from(last) + 1).saturating_mul(resolution) };
    Ok((findings.into_iter().map(orphan).collect(), known))
}
