//! A sieve: which of a stream's events count at all, by what their groups did on days before.
//!
//! *New*: events with a value that the group has not had lately. *Waking*: events of a group that has been silent for long.
//! What counts as before are days before yesterday: events of yesterday may still come, those before are settled, as long as
//! the watermark is less than a day behind. So what is new or wakes does not depend on the order in which events come,
//! and stays so for a second day. (Baselines leave out the same two days.)
//!
//! Of a group, and of each value in it, ten bytes of days are kept under the 64 bits of its fingerprint.

use super::intake::{Intake, Values, Work};
use crate::codec::{Damaged, Reader, Writer};
use crate::detect::{Day, Days};
use crate::key::{Fingerprint, Keyring};
use crate::plan::SievePlan;
use crate::shedding::Ages;
use crate::time::Micros;
use rustc_hash::FxHashMap;

/// The newest day that counts as before, back from the one at hand.
const LAG: Day = 2;
/// The days before the newest that are known one by one.
const NEAR: Day = 16;
/// A group that has been silent for longer is another one under its name.
const LONGEST_SLEEP: Day = 1096;

/// The days on which something was seen; 0 is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    newest: u16,
    /// Bit n: it was seen n + 1 days before the newest.
    near: u16,
    /// The newest of the days before those.
    far: u16,
    /// The first day after the last pause that was too long.
    since: u16,
    /// What `since` was before that pause.
    before_pause: u16,
}

impl Seen {
    /// Notes a day. A pause of more than `longest` days is one to begin anew after.
    #[inline]
    fn on(&mut self, day: Day, longest: Day) {
        if Day::from(self.newest) != day {
            self.on_another(day, longest);
        }
    }

    fn on_another(&mut self, day: Day, longest: Day) {
        let newest = Day::from(self.newest);
        if newest == 0 {
            *self = Self { newest: day as u16, since: day as u16, ..Self::default() };
        } else if day > newest {
            let ahead = day - newest;
            if ahead > longest {
                (self.before_pause, self.since) = (self.since, day as u16);
            }
            let days = u32::from(self.near) << 1 | 1;
            // The newest of those that are no longer near.
            if let Some(back) = (0..=NEAR).find(|&back| days >> back & 1 == 1 && back + ahead > NEAR) {
                self.far = (newest - back) as u16;
            }
            let moved = if ahead > NEAR { 0 } else { u64::from(days) << (ahead - 1) };
            (self.newest, self.near) = (day as u16, moved as u16);
        } else {
            self.on_earlier(day, longest);
        }
    }

    /// Notes a day before the newest.
    #[cold]
    fn on_earlier(&mut self, day: Day, longest: Day) {
        let back = Day::from(self.newest) - day;
        let before = self.latest(day - 1);
        if back <= NEAR {
            self.near |= 1 << (back - 1);
        } else {
            self.far = self.far.max(day as u16);
        }
        match before {
            None => self.since = day as u16,
            // It lies within the pause that seemed to end with the newest.
            Some(before) if self.since == self.newest => {
                self.since = if day - before > longest { day as u16 } else { self.before_pause };
            }
            Some(_) => {}
        }
    }

    /// Since when it has been seen, with no pause that was too long, up to a day on which it was.
    fn since(&self, day: Day) -> Day {
        let since = Day::from(self.since);
        if since > day { Day::from(self.before_pause) } else { since }
    }

    /// The newest day seen that counts as before `day`.
    fn before(&self, day: Day) -> Option<Day> {
        self.latest(day.checked_sub(LAG)?)
    }

    /// The newest day seen that is not after `day`.
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

    fn save(&self, to: &mut Writer) {
        for day in [self.newest, self.near, self.far, self.since, self.before_pause] {
            to.u16(day);
        }
    }

    fn load(from: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self {
            newest: from.u16()?,
            near: from.u16()?,
            far: from.u16()?,
            since: from.u16()?,
            before_pause: from.u16()?,
        })
    }
}

/// What has been seen so far, of groups and of values in groups.
#[derive(Debug, Default)]
pub(super) struct Memory {
    groups: FxHashMap<Fingerprint, Seen>,
    values: FxHashMap<Fingerprint, Seen>,
    /// The day it was last swept on.
    swept: Day,
}

/// A stream's sieve.
#[derive(Debug)]
pub(super) struct Sieve {
    plan: SievePlan,
    days: Days,
    /// The place of the field whose values may be new among what the stream counts.
    field: Option<usize>,
    memory: Memory,
}

impl Sieve {
    pub(super) fn new(plan: &SievePlan, days: Days, field: Option<usize>) -> Self {
        Self { plan: plan.clone(), days, field, memory: Memory::default() }
    }

    /// Takes out of a piece what does not count.
    pub(super) fn sift(&mut self, intake: &mut Intake, keyring: &Keyring) {
        let Intake { work, values, .. } = intake;
        work.retain(|one| self.passes(one, values, keyring));
    }

    fn passes(&mut self, work: &Work, values: &mut Values, keyring: &Keyring) -> bool {
        let day = self.days.day(work.time);
        let Memory { groups, values: of_groups, .. } = &mut self.memory;
        let group = groups.entry(work.print).or_default();
        match self.plan {
            SievePlan::Waking { silent_days } => {
                group.on(day, LONGEST_SLEEP);
                let last = group.before(day);
                last.is_some_and(|last| day - last > silent_days && day - last <= LONGEST_SLEEP)
            }
            SievePlan::New { over_days, after_days, .. } => {
                group.on(day, over_days);
                let last = group.before(day);
                let is_known =
                    last.is_some_and(|last| day - last <= over_days && group.since(last) + after_days <= day);
                let Some(field) = self.field else { return false };
                values.retain(work, field, |value| {
                    let seen = of_groups.entry(keyring.combine(&[work.print, value])).or_default();
                    seen.on(day, over_days);
                    is_known && seen.before(day).is_none_or(|last| day - last > over_days)
                })
            }
        }
    }

    /// How many days after the last something is still of use.
    fn kept(&self) -> Day {
        let days = match self.plan {
            SievePlan::Waking { .. } => LONGEST_SLEEP,
            SievePlan::New { over_days, .. } => over_days,
        };
        days + LAG
    }

    /// The watermark has come to `watermark`: forgets, once a day, what is of no use any more.
    pub(super) fn settle(&mut self, watermark: Micros) {
        let today = self.days.day(watermark);
        if watermark == Micros::MAX || today <= self.memory.swept {
            return;
        }
        let first = today.saturating_sub(self.kept());
        self.memory.swept = today;
        self.memory.retain(first);
    }

    /// Adds up by age what [`Self::forget_before`] would free.
    pub(super) fn ages(&self, ages: &mut Ages) {
        let Memory { groups, values, .. } = &self.memory;
        for seen in groups.values().chain(values.values()) {
            ages.add(self.days.start_of(Day::from(seen.newest) + 1) - 1, BYTES);
        }
    }

    /// Forgets what was last seen on days before that of `time`: values will be new once more, and groups unknown.
    pub(super) fn forget_before(&mut self, time: Micros) {
        self.memory.retain(self.days.day(time));
        self.memory.groups.shrink_to_fit();
        self.memory.values.shrink_to_fit();
    }

    pub(super) fn heap_bytes(&self) -> usize {
        (self.memory.groups.capacity() + self.memory.values.capacity()) * BYTES
    }

    pub(super) fn save(&self, to: &mut Writer) {
        self.memory.save(to);
    }

    pub(super) fn go_on_from(&mut self, memory: Memory) {
        self.memory = memory;
    }
}

/// Bytes of one entry: fingerprint, days and the table's own byte.
const BYTES: usize = size_of::<(Fingerprint, Seen)>() + 1;

impl Memory {
    fn retain(&mut self, first: Day) {
        self.groups.retain(|_, seen| Day::from(seen.newest) >= first);
        self.values.retain(|_, seen| Day::from(seen.newest) >= first);
    }

    fn save(&self, to: &mut Writer) {
        to.u32(self.swept);
        for seen in [&self.groups, &self.values] {
            to.list(seen.iter(), |to, (&print, seen)| {
                to.u64(print);
                seen.save(to);
            });
        }
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self, Damaged> {
        let swept = from.u32()?;
        let mut table = || from.list(18, |from| Ok((from.u64()?, Seen::load(from)?)));
        Ok(Self { swept, groups: table()?, values: table()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Days that come at most one behind the newest, and the longest pause.
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
        fn it_knows_the_days_that_are_settled((days, longest) in days()) {
            let (mut seen, mut all) = (Seen::default(), BTreeSet::new());
            for day in days {
                seen.on(day, longest);
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
