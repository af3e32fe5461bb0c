//! Novelty filter: decides by a group's history of days whether an event counts at all.
//!
//! Two rules use it. *New* counts events with a value that the group has not had within `over_days`. *Dormant* counts
//! events of a group that was silent for more than `silent_days`.
//!
//! Only days before yesterday count as history. Events of yesterday can still arrive out of order; earlier days are
//! final as long as the watermark lags less than a day. The decision therefore does not depend on the arrival order. As
//! a consequence, a value stays new for a second day. Baselines exclude the same two days.
//!
//! Cost: 25 bytes per group and per (group, value) pair, plus the free room of the hash tables; one look-up each per
//! event.

use super::routing::{EventValues, KeyedBatch, KeyedEvent};
use crate::foundation::calendar::{Day, Days};
use crate::foundation::codec::{Damaged, StateReader, StateWriter};
use crate::foundation::eviction::AgeHistogram;
use crate::foundation::fingerprint::{Fingerprint, Fingerprinter};
use crate::foundation::time::Micros;
use crate::plan::NoveltyPlan;
use rustc_hash::FxHashMap;

/// Age in days of the newest day that counts as history.
const LAG: Day = 2;
/// Number of days before [`SeenDays::newest`] that are kept as individual bits.
const NEAR: Day = 16;
/// Longest silence of a group, in days; after a longer one it counts as a new group.
const MAX_SILENCE: Day = 1096;

/// Days on which a group or value was seen, as days since 1970; 0 means none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct SeenDays {
    newest: u16,
    /// Bit n is set if it was seen n + 1 days before `newest`.
    near: u16,
    /// Newest day older than those in `near`.
    far: u16,
    /// First day of the current run: after the last pause that was longer than the limit.
    since: u16,
    /// Value of `since` before that pause.
    before_pause: u16,
}

impl SeenDays {
    /// Records a day. After a pause of more than `longest` days the history starts again.
    #[inline]
    fn note(&mut self, day: Day, longest: Day) {
        if Day::from(self.newest) != day {
            self.note_other_day(day, longest);
        }
    }

    fn note_other_day(&mut self, day: Day, longest: Day) {
        let newest = Day::from(self.newest);
        if newest == 0 {
            *self = Self { newest: day as u16, since: day as u16, ..Self::default() };
        } else if day > newest {
            let ahead = day - newest;
            if ahead > longest {
                (self.before_pause, self.since) = (self.since, day as u16);
            }
            let days = u32::from(self.near) << 1 | 1;
            // The newest day that no longer fits into `near`.
            if let Some(back) = (0..=NEAR).find(|&back| days >> back & 1 == 1 && back + ahead > NEAR) {
                self.far = (newest - back) as u16;
            }
            let moved = if ahead > NEAR { 0 } else { u64::from(days) << (ahead - 1) };
            (self.newest, self.near) = (day as u16, moved as u16);
        } else {
            self.note_earlier_day(day, longest);
        }
    }

    /// Records a day before the newest.
    #[cold]
    fn note_earlier_day(&mut self, day: Day, longest: Day) {
        let back = Day::from(self.newest) - day;
        let before = self.latest(day - 1);
        if back <= NEAR {
            self.near |= 1 << (back - 1);
        } else {
            self.far = self.far.max(day as u16);
        }
        match before {
            None => self.since = day as u16,
            // The day lies within the pause that seemed to end with the newest day.
            Some(before) if self.since == self.newest => {
                self.since = if day - before > longest { day as u16 } else { self.before_pause };
            }
            Some(_) => {}
        }
    }

    /// First day of the run without a long pause that includes `day`, on which it was seen.
    fn since(&self, day: Day) -> Day {
        let since = Day::from(self.since);
        if since > day { Day::from(self.before_pause) } else { since }
    }

    /// Newest day seen that counts as history on `day`.
    fn before(&self, day: Day) -> Option<Day> {
        self.latest(day.checked_sub(LAG)?)
    }

    /// Newest day seen up to `day`.
    fn latest(&self, day: Day) -> Option<Day> {
        let newest = Day::from(self.newest);
        if newest == 0 {
            return None;
        }
        if newest <= day {
            return Some(newest);
        }
        let back = newest - day;
        let near = if back > NEAR { 0 } else { u32::from(self.near) >> (back - 1) };
        if near != 0 {
            return Some(day - near.trailing_zeros());
        }
        Some(Day::from(self.far)).filter(|&far| far != 0 && far <= day)
    }

    fn save(&self, to: &mut StateWriter) {
        for day in [self.newest, self.near, self.far, self.since, self.before_pause] {
            to.u16(day);
        }
    }

    fn load(from: &mut StateReader<'_>) -> Result<Self, Damaged> {
        Ok(Self {
            newest: from.u16()?,
            near: from.u16()?,
            far: from.u16()?,
            since: from.u16()?,
            before_pause: from.u16()?,
        })
    }
}

/// Days seen, per group and per (group, value) pair.
#[derive(Debug, Default)]
pub(super) struct NoveltyState {
    groups: FxHashMap<Fingerprint, SeenDays>,
    values: FxHashMap<Fingerprint, SeenDays>,
    /// Day of the last sweep.
    swept: Day,
}

/// The novelty filter of one stream.
#[derive(Debug)]
pub(super) struct NoveltyFilter {
    plan: NoveltyPlan,
    days: Days,
    /// Index of the value source whose values can be new.
    field: Option<usize>,
    memory: NoveltyState,
}

impl NoveltyFilter {
    pub(super) fn new(plan: &NoveltyPlan, days: Days, field: Option<usize>) -> Self {
        Self { plan: plan.clone(), days, field, memory: NoveltyState::default() }
    }

    /// Drops the events of a chunk that are not novel.
    pub(super) fn retain_novel(&mut self, batch: &mut KeyedBatch, fingerprinter: &Fingerprinter) {
        let KeyedBatch { events, values, .. } = batch;
        events.retain(|keyed| self.passes(keyed, values, fingerprinter));
    }

    fn passes(
        &mut self,
        keyed: &KeyedEvent,
        values: &mut EventValues,
        fingerprinter: &Fingerprinter,
    ) -> bool {
        let day = self.days.day(keyed.time);
        let NoveltyState { groups, values: seen_values, .. } = &mut self.memory;
        let group = groups.entry(keyed.fingerprint).or_default();
        match self.plan {
            NoveltyPlan::Dormant { silent_days } => {
                group.note(day, MAX_SILENCE);
                let last = group.before(day);
                last.is_some_and(|last| day - last > silent_days && day - last <= MAX_SILENCE)
            }
            NoveltyPlan::New { over_days, after_days, .. } => {
                group.note(day, over_days);
                let last = group.before(day);
                let is_known =
                    last.is_some_and(|last| day - last <= over_days && group.since(last) + after_days <= day);
                let Some(field) = self.field else { return false };
                values.retain(keyed, field, |value| {
                    let seen =
                        seen_values.entry(fingerprinter.combine(&[keyed.fingerprint, value])).or_default();
                    seen.note(day, over_days);
                    is_known && seen.before(day).is_none_or(|last| day - last > over_days)
                })
            }
        }
    }

    /// Number of days after which history is no longer needed.
    fn kept(&self) -> Day {
        let days = match self.plan {
            NoveltyPlan::Dormant { .. } => MAX_SILENCE,
            NoveltyPlan::New { over_days, .. } => over_days,
        };
        days + LAG
    }

    /// Removes expired history, once a day of event time.
    pub(super) fn advance_watermark(&mut self, watermark: Micros) {
        let today = self.days.day(watermark);
        if watermark == Micros::MAX || today <= self.memory.swept {
            return;
        }
        let first = today.saturating_sub(self.kept());
        self.memory.swept = today;
        self.memory.retain(first);
    }

    /// Adds the memory that [`Self::evict_before`] could free to a histogram by age.
    pub(super) fn add_ages(&self, ages: &mut AgeHistogram) {
        let NoveltyState { groups, values, .. } = &self.memory;
        for seen in groups.values().chain(values.values()) {
            ages.add(self.days.start_of(Day::from(seen.newest) + 1) - 1, BYTES);
        }
    }

    /// Evicts history of days before that of `time`. Evicted values will count as new again, evicted groups as
    /// unknown.
    pub(super) fn evict_before(&mut self, time: Micros) {
        self.memory.retain(self.days.day(time));
        self.memory.groups.shrink_to_fit();
        self.memory.values.shrink_to_fit();
    }

    pub(super) fn heap_bytes(&self) -> usize {
        (self.memory.groups.capacity() + self.memory.values.capacity()) * BYTES
    }

    pub(super) fn save(&self, to: &mut StateWriter) {
        self.memory.save(to);
    }

    pub(super) fn resume_from(&mut self, memory: NoveltyState) {
        self.memory = memory;
    }
}

/// Bytes per entry: fingerprint, days, and the hash table's control byte.
const BYTES: usize = size_of::<(Fingerprint, SeenDays)>() + 1;

impl NoveltyState {
    fn retain(&mut self, first: Day) {
        self.groups.retain(|_, seen| Day::from(seen.newest) >= first);
        self.values.retain(|_, seen| Day::from(seen.newest) >= first);
    }

    fn save(&self, to: &mut StateWriter) {
        to.u32(self.swept);
        for seen in [&self.groups, &self.values] {
            to.list(seen.iter(), |to, (&fingerprint, seen)| {
                to.u64(fingerprint);
                seen.save(to);
            });
        }
    }

    pub(super) fn load(from: &mut StateReader<'_>) -> Result<Self, Damaged> {
        let swept = from.u32()?;
        let mut table = || from.list(18, |from| Ok((from.u64()?, SeenDays::load(from)?)));
        Ok(Self { swept, groups: table()?, values: table()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Days that arrive at most one day late, and the longest pause.
    fn days() -> impl Strategy<Value = (Vec<Day>, Day)> {
        let steps = prop::collection::vec((prop_oneof![0_u32..3, 0_u32..40], any::<bool>()), 1..60);
        (steps, 2_u32..30).prop_map(|(steps, longest)| {
            let mut newest = 20_000;
            let days = steps.into_iter().map(|(ahead, late)| {
                newest += ahead;
                newest - Day::from(late)
            });
            (days.collect(), longest)
        })
    }

    proptest! {
        #[test]
        fn history_equals_the_final_days((days, longest) in days()) {
            let (mut seen, mut all) = (SeenDays::default(), BTreeSet::new());
            for day in days {
                seen.note(day, longest);
                all.insert(day);
                let settled = all.range(..=day - LAG);
                prop_assert_eq!(seen.latest(day - LAG), settled.clone().next_back().copied());
                let Some(&last) = settled.clone().next_back() else { continue };
                let starts = settled.clone().zip(settled.skip(1)).filter(|(one, next)| *next - *one > longest);
                let since = starts.last().map_or(all.first().copied(), |(_, next)| Some(*next));
                prop_assert_eq!(Some(seen.since(last)), since);
            }
        }
    }
}
