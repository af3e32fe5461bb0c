//! Baselines: thresholds that follow what is usual for a group, or for its peers.
//!
//! Of each group the largest count of each day is kept, as far back as the plan says. What is usual on a day is read from
//! days that are over: the group's own (a quantile of the days of the same kind, working days or weekends), its peers' (the
//! median over the peer group, or over all, on the last such days), or both: how much the group does beside its peers, times what these do
//! now. So a campaign that has all of a department do more raises all its thresholds, and one who does more alone stands out.
//!
//! The day at hand and the one before do not count, since events may still come for them; nor do days whose windows overlap
//! with the one at hand, or a slow rise would be its own measure. So what a day is judged by is settled before it begins,
//! and findings do not depend on the order in which events come, as long as the watermark is less than a day behind.
//!
//! A baseline's condition is judged in panes with events only.

use crate::codec::{Damaged, Reader, Writer};
use crate::key::Fingerprint;
use crate::plan::{BaselineOf, BaselinePlan, RulePlan};
use crate::prefetch::prefetch;
use crate::time::Micros;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// A day: local time since 1970, divided by 24 hours.
pub(crate) type Day = u32;

const DAY: Micros = 86_400_000_000;

/// The calendar.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Days {
    /// Local time less UTC.
    pub(crate) offset: Micros,
}

impl Days {
    pub(crate) fn day(self, time: Micros) -> Day {
        (time.saturating_add(self.offset).max(0) / DAY) as Day
    }

    pub(crate) fn start_of(self, day: Day) -> Micros {
        Micros::from(day) * DAY - self.offset
    }
}
/// The newest day that peers are read from: of the days before the one at hand, the last may still change.
const PEERS_LAG: Day = 2;
/// How many days back peers are looked for, over holidays and weekends.
const PEERS_REACH: Day = 14;

/// What a group's count is held against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bar {
    /// The least count that holds.
    pub(crate) need: u64,
    /// What is usual, where anything is known.
    pub(crate) usual: Option<f64>,
}

/// What is usual among peers on a day.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Level {
    /// The count.
    count: f64,
    /// On how many days of a window they worked.
    worked: f64,
}

/// By peer group: its groups' counts on a day, and on how many days of the window they worked.
pub(crate) type ByPeer = FxHashMap<Fingerprint, Vec<(f64, f64)>>;

/// The days of one group.
#[derive(Debug, Clone)]
struct Profile {
    /// Whose peers it is among, by its newest event.
    peer: Fingerprint,
    /// Whose it was among before; windows that began then have work of both.
    former: Option<Fingerprint>,
    newest: Micros,
    /// The first day there were events on, of those it has been among the same peers.
    first: Day,
    /// The largest counts of days, the last of them `last`.
    peaks: Box<[u32]>,
    last: Day,
    /// The last one's peak, so that it is at hand.
    last_peak: u32,
    /// The bar of the day it was last asked for.
    bar: Option<(Day, Bar)>,
}

/// The profiles of a rule's groups in one shard.
#[derive(Debug)]
pub(crate) struct Profiles {
    plan: BaselinePlan,
    floor: u64,
    days: Days,
    /// Days that a window reaches over.
    span: Day,
    /// Where a counted field of the stream says whose peers a group is among.
    pub(crate) peers_at: Option<usize>,
    known: Known,
    /// The largest count of a day over what it was held against.
    closest: (Day, f64),
}

/// What has been seen so far.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// By slot.
    groups: Vec<Option<Profile>>,
    /// By peer group, by day that is over: what was usual among peers.
    levels: FxHashMap<Fingerprint, BTreeMap<Day, Level>>,
    /// The first day that is not over; 0 before the first event.
    today: Day,
    /// The first day there were events on, if there were any.
    began: Option<Day>,
}

impl Profiles {
    /// `peers_at` as in the structure.
    pub(crate) fn new(plan: &BaselinePlan, rule: &RulePlan, days: Days, peers_at: Option<usize>) -> Self {
        let span_days = rule.timespan_ms.div_ceil(86_400_000) as Day;
        Self {
            plan: plan.clone(),
            floor: rule.floor().unwrap_or(1),
            days,
            span: span_days,
            peers_at,
            known: Known::default(),
            closest: (0, 0.0),
        }
    }

    pub(crate) fn floor(&self) -> u64 {
        self.floor
    }

    /// How many days before the one at hand the newest is that a group's own usual is read from.
    fn own_lag(&self) -> Day {
        self.span + 1
    }

    /// How many days of a group are kept.
    fn kept(&self) -> usize {
        let own = self.plan.over_days + self.own_lag() + self.span;
        let days = if self.plan.of == BaselineOf::Peers { 0 } else { own };
        days.max(PEERS_LAG).max(self.span) as usize + 1
    }

    /// A group's count has come to `count` on the day of `time`; `newest` says that the event is its newest.
    pub(crate) fn see(
        &mut self,
        slot: u32,
        time: Micros,
        count: u64,
        peer: Option<Fingerprint>,
        newest: bool,
    ) {
        let (day, kept, span) = (self.days.day(time), self.kept(), self.span);
        let slot = slot as usize;
        if slot >= self.known.groups.len() {
            self.known.groups.resize_with(slot + 1, || None);
        }
        let profile = self.known.groups[slot].get_or_insert_with(|| Profile {
            peer: 0,
            former: None,
            newest: Micros::MIN,
            first: day,
            peaks: vec![0; kept].into_boxed_slice(),
            last: day,
            last_peak: 0,
            bar: None,
        });
        profile.first = profile.first.min(day);
        self.known.began = Some(self.known.began.map_or(day, |began| began.min(day)));
        if newest && let Some(peer) = peer {
            // Of several events of one time the order does not decide.
            let peer = if time == profile.newest { peer.max(profile.peer) } else { peer };
            if peer != profile.peer && profile.newest != Micros::MIN {
                // Another desk is other work: what was usual before says nothing of it.
                let has_both = profile.last + span >= day;
                (profile.first, profile.bar) = (day, None);
                profile.former = has_both.then_some(profile.peer);
            }
            (profile.peer, profile.newest) = (peer, time);
        }
        profile.note(day, u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Asks for what [`Self::see`] will read.
    #[inline]
    pub(crate) fn prefetch(&self, slot: u32) {
        if let Some(group) = self.known.groups.get(slot as usize) {
            prefetch(group);
        }
    }

    /// Takes notice of a count that is below every threshold; the least it could be held against is told instead.
    pub(crate) fn came_below(&mut self, time: Micros, count: u64) {
        self.came(time, count, Bar { need: self.floor, usual: None });
    }

    /// How much longer than its window a group is kept, as a share of what it is kept: 1 for no longer.
    pub(crate) fn pace(&self) -> f64 {
        f64::from(self.span) / f64::from(self.kept() as Day)
    }

    /// What a group's counts of a day are held against; `None` where nothing is known that they could be.
    pub(crate) fn bar(&mut self, slot: u32, time: Micros) -> Option<Bar> {
        let day = self.days.day(time);
        let profile = self.known.get(slot)?;
        if let Some((known, bar)) = profile.bar
            && known == day
        {
            return Some(bar).filter(|bar| bar.need < u64::MAX);
        }
        let usual = self.usual(profile, day);
        let need = match usual {
            Some((usual, factor)) => ((factor * usual).ceil() as u64).max(self.floor),
            None => self.plan.cold.map_or(u64::MAX, |cold| cold.max(self.floor)),
        };
        let bar = Bar { need, usual: usual.map(|(usual, _)| usual) };
        // Where the watermark is far behind, more may become known.
        let is_settled = self.known.today + 1 >= day;
        if let Some(Some(profile)) = self.known.groups.get_mut(slot as usize) {
            profile.bar = Some((day, bar)).filter(|_| is_settled);
        }
        Some(bar).filter(|bar| bar.need < u64::MAX)
    }

    /// Takes notice of how close a count came on the day of `time`.
    pub(crate) fn came(&mut self, time: Micros, count: u64, bar: Bar) {
        let (day, ratio) = (self.days.day(time), count as f64 / bar.need as f64);
        if day > self.closest.0 {
            self.closest = (day, ratio);
        } else if day == self.closest.0 {
            self.closest.1 = self.closest.1.max(ratio);
        }
    }

    /// The largest count of the newest day over what it was held against.
    pub(crate) fn closest(&self) -> f64 {
        self.closest.1
    }

    /// What is usual, and how many times as much is too much.
    fn usual(&self, profile: &Profile, day: Day) -> Option<(f64, f64)> {
        let BaselinePlan { factor, stranger_factor, .. } = self.plan;
        let former = profile.former.filter(|_| day < profile.first + self.span);
        let peers = || {
            let levels = former.into_iter().chain([profile.peer]).filter_map(|peer| self.level(peer, day));
            levels.max_by(f64::total_cmp)
        };
        match self.plan.of {
            BaselineOf::Peers => peers().map(|usual| (usual, factor)),
            BaselineOf::Own => {
                let alone = |_, peak| Some((f64::from(peak), 1.0));
                let own = self.own(profile, day, alone);
                let of_strangers = || peers().map(|usual| (usual, stranger_factor));
                own.map(|(usual, doubt)| (usual, factor * doubt)).or_else(of_strangers)
            }
            BaselineOf::Both => {
                let levels = self.known.levels.get(&profile.peer);
                let beside_peers = |day: Day, peak: u32| {
                    let level = levels?.get(&day)?;
                    (level.count > 0.0).then(|| (f64::from(peak) / level.count, level.worked))
                };
                let level = peers()?;
                let own = self.own(profile, day, beside_peers);
                Some(own.map_or((level, stranger_factor), |(own, doubt)| (own * level, factor * doubt)))
            }
        }
    }

    /// What is usual of a measure over a group's own days, of the same kind if there are enough; and how many times as large a
    /// factor should be, since it is read from so few windows. `None` where there are too few. The measure comes with the
    /// days of a window that whoever it is beside worked on.
    fn own(
        &self,
        profile: &Profile,
        day: Day,
        measure: impl Fn(Day, u32) -> Option<(f64, f64)>,
    ) -> Option<(f64, f64)> {
        let last = day.checked_sub(self.own_lag())?;
        // Before, its windows were not full.
        let full = profile.first + self.span;
        // On days next to each other a long window holds much the same, so they count for one.
        if self.span > 1 && last + 1 < full + self.span {
            return None;
        }
        let first = (last + 1).saturating_sub(self.plan.over_days).max(full);
        // Of each window, the measure and the share of its days that the group worked on.
        let windows = profile.windows(first, last, self.span).into_iter();
        let windows: Vec<(Day, f64, f64)> = windows
            .filter_map(|(day, peak, worked)| {
                let (measured, beside) = measure(day, peak)?;
                Some((day, measured, worked / beside))
            })
            .collect();
        let most = windows.iter().map(|&(.., share)| share).fold(0.0, f64::max);
        // Somebody away for a part of a window would have come to more.
        let whole = windows.into_iter().filter(|&(.., share)| share * 2.0 >= most);
        let all: Vec<(Day, f64)> =
            whole.map(|(day, measured, share)| (day, measured * (most / share))).collect();
        let alike: Vec<f64> =
            all.iter().filter(|&&(known, _)| self.are_alike(known, day)).map(|&(_, one)| one).collect();
        let enough = self.plan.least_days as usize;
        let days = if alike.len() >= enough { alike } else { all.into_iter().map(|(_, one)| one).collect() };
        if days.len() < enough {
            return None;
        }
        let doubt = 1.0 + f64::from(self.span) / (2.0 * f64::from(last + 1 - first));
        Some((quantile(days, self.plan.quantile)?, doubt))
    }

    /// What is usual among peers on a day: the most of days of its kind lately, or else of any. What was little because of
    /// holidays is not what is usual after.
    fn level(&self, peer: Fingerprint, day: Day) -> Option<f64> {
        let last = day.checked_sub(PEERS_LAG)?;
        let known = self.known.levels.get(&peer)?.range(last.saturating_sub(PEERS_REACH)..=last);
        let alike = known.clone().filter(|&(&known, _)| self.are_alike(known, day));
        let counts = alike.map(|(_, level)| level.count).max_by(f64::total_cmp);
        counts.or_else(|| known.map(|(_, level)| level.count).max_by(f64::total_cmp))
    }

    /// Whether two days are of the same kind: working days, or weekends. Windows of a week and longer have both.
    fn are_alike(&self, one: Day, other: Day) -> bool {
        self.span >= 7 || is_weekend(one) == is_weekend(other)
    }

    /// Whether a group's days are still of use.
    pub(crate) fn keeps(&self, slot: u32) -> bool {
        let kept = self.kept() as Day;
        let profile = self.known.get(slot);
        profile.is_some_and(|profile| profile.last.saturating_add(kept) >= self.known.today)
    }

    pub(crate) fn forget(&mut self, slot: u32) {
        if let Some(group) = self.known.groups.get_mut(slot as usize) {
            *group = None;
        }
    }

    /// The first day on which windows could be full; `None` before the first event.
    pub(crate) fn full_from(&self) -> Option<Day> {
        self.known.began.map(|began| began + self.span)
    }

    /// The days that are over at `watermark` and of which [`Self::close`] does not know yet.
    pub(crate) fn over(&self, watermark: Micros) -> std::ops::Range<Day> {
        let today = self.days.day(watermark);
        let first = self.known.today.max(today.saturating_sub(self.kept() as Day));
        if watermark == Micros::MAX { 0..0 } else { first..today }
    }

    /// Adds the groups' counts on a day, by peer group.
    pub(crate) fn on(&self, day: Day, by_peer: &mut ByPeer) {
        for profile in self.known.groups.iter().flatten() {
            if let Some((_, peak)) = profile.days(day, day).next() {
                let worked = profile.days((day + 1).saturating_sub(self.span), day).count();
                by_peer.entry(profile.peer).or_default().push((f64::from(peak), worked as f64));
            }
        }
    }

    /// Takes in that the days before `today` are over, and what was usual on them.
    pub(crate) fn close(&mut self, today: Day, levels: &[(Day, FxHashMap<Fingerprint, Level>)]) {
        self.known.today = today;
        for (day, by_peer) in levels {
            for (&peer, &level) in by_peer {
                self.known.levels.entry(peer).or_default().insert(*day, level);
            }
        }
        let first = today.saturating_sub((self.kept() as Day).max(PEERS_REACH + PEERS_LAG + 1));
        self.known.levels.retain(|_, days| {
            *days = days.split_off(&first);
            !days.is_empty()
        });
    }

    /// What is usual among those of a peer group, each with its count and days; `None` where they are too few.
    pub(crate) fn among(&self, groups: Vec<(f64, f64)>) -> Option<Level> {
        if groups.len() < self.plan.least_peers as usize {
            return None;
        }
        let (counts, worked) = groups.into_iter().unzip();
        Some(Level { count: quantile(counts, 0.5)?, worked: quantile(worked, 0.5)? })
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let days = self.known.groups.iter().flatten().count() * self.kept() * size_of::<u32>();
        self.known.groups.capacity() * size_of::<Option<Profile>>() + days
    }

    pub(crate) fn save(&self, to: &mut Writer) {
        self.known.save(to);
    }

    /// Goes on from what was saved of a rule that keeps the same days.
    pub(crate) fn go_on_from(&mut self, known: Known) {
        let kept = self.kept();
        self.known = known;
        for group in &mut self.known.groups {
            group.take_if(|profile| profile.peaks.len() != kept);
        }
    }
}

impl Known {
    fn get(&self, slot: u32) -> Option<&Profile> {
        self.groups.get(slot as usize)?.as_ref()
    }

    fn save(&self, to: &mut Writer) {
        to.u32(self.today);
        to.flag(self.began.is_some());
        to.u32(self.began.unwrap_or_default());
        to.list(self.groups.iter(), |to, group| {
            to.flag(group.is_some());
            if let Some(profile) = group {
                profile.save(to);
            }
        });
        to.list(self.levels.iter(), |to, (&peer, days)| {
            to.u64(peer);
            to.list(days.iter(), |to, (&day, &level)| {
                to.u32(day);
                to.u64(level.count.to_bits());
                to.u64(level.worked.to_bits());
            });
        });
    }

    pub(crate) fn load(from: &mut Reader<'_>) -> Result<Self, Damaged> {
        let (today, has_begun) = (from.u32()?, from.flag()?);
        let began = Some(from.u32()?).filter(|_| has_begun);
        let groups =
            from.list(1, |from| if from.flag()? { Profile::load(from).map(Some) } else { Ok(None) })?;
        let levels = from.list(16, |from| {
            let peer = from.u64()?;
            let days = from.list(20, |from| {
                let day = from.u32()?;
                let (count, worked) = (f64::from_bits(from.u64()?), f64::from_bits(from.u64()?));
                Ok((day, Level { count, worked }))
            })?;
            Ok((peer, days))
        })?;
        Ok(Self { groups, levels, today, began })
    }
}

impl Profile {
    fn save(&self, to: &mut Writer) {
        to.u64(self.peer);
        to.flag(self.former.is_some());
        to.u64(self.former.unwrap_or_default());
        to.i64(self.newest);
        to.u32(self.first);
        to.u32(self.last);
        to.list(self.peaks.iter(), |to, &peak| to.u32(peak));
    }

    fn load(from: &mut Reader<'_>) -> Result<Self, Damaged> {
        let (peer, has_moved, former) = (from.u64()?, from.flag()?, from.u64()?);
        let (newest, first, last) = (from.i64()?, from.u32()?, from.u32()?);
        let peaks: Vec<u32> = from.list(4, Reader::u32)?;
        if peaks.is_empty() {
            return Err(Damaged("a group's days are none"));
        }
        let (former, last_peak) = (has_moved.then_some(former), peaks[last as usize % peaks.len()]);
        let peaks = peaks.into_boxed_slice();
        Ok(Self { peer, former, newest, first, peaks, last, last_peak, bar: None })
    }

    /// A day's count has come to `count`.
    #[inline]
    fn note(&mut self, day: Day, count: u32) {
        if day > self.last {
            for new in (self.last + 1).max(day.saturating_sub(self.peaks.len() as Day))..=day {
                *self.peak_mut(new) = 0;
            }
            (self.last, self.last_peak) = (day, 0);
        }
        if day == self.last && count > self.last_peak {
            self.last_peak = count;
            *self.peak_mut(day) = count;
        } else if day < self.last && self.is_kept(day) {
            *self.peak_mut(day) = count.max(*self.peak_mut(day));
        }
    }

    fn is_kept(&self, day: Day) -> bool {
        day <= self.last && day as usize + self.peaks.len() > self.last as usize
    }

    fn peak_mut(&mut self, day: Day) -> &mut u32 {
        let at = day as usize % self.peaks.len();
        &mut self.peaks[at]
    }

    /// The days from `first` to `last` on which there was anything, each with its peak, and with on how many days of the
    /// window of `span` days that ends with it there was.
    fn windows(&self, first: Day, last: Day, span: Day) -> Vec<(Day, u32, f64)> {
        let days: Vec<(Day, u32)> = self.days((first + 1).saturating_sub(span), last).collect();
        let mut begin = 0;
        let windows = days.iter().enumerate().map(|(at, &(day, peak))| {
            while days[begin].0 + span <= day {
                begin += 1;
            }
            (day, peak, (at + 1 - begin) as f64)
        });
        windows.filter(|&(day, ..)| day >= first).collect()
    }

    /// The days from `first` to `last` on which there was anything.
    fn days(&self, first: Day, last: Day) -> impl Iterator<Item = (Day, u32)> {
        let within = (first..=last).filter(|&day| self.is_kept(day));
        within.map(|day| (day, self.peaks[day as usize % self.peaks.len()])).filter(|&(_, peak)| peak > 0)
    }
}

fn is_weekend(day: Day) -> bool {
    // 1970-01-01 was a Thursday.
    (day + 3) % 7 >= 5
}

/// A quantile, interpolated between the two values next to it.
fn quantile(mut values: Vec<f64>, share: f64) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let place = values.len().checked_sub(1)? as f64 * share;
    let (low, high) = (*values.get(place.floor() as usize)?, *values.get(place.ceil() as usize)?);
    Some(low + (high - low) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_that_are_long_gone_are_not_kept() {
        let mut profile = Profile {
            peer: 0,
            former: None,
            newest: 0,
            first: 10,
            peaks: vec![0; 3].into_boxed_slice(),
            last: 10,
            last_peak: 0,
            bar: None,
        };
        for (day, count) in [(10, 1), (12, 3), (11, 2), (13, 4), (13, 2), (10, 9)] {
            profile.note(day, count);
        }
        assert_eq!(profile.days(9, 20).collect::<Vec<_>>(), [(11, 2), (12, 3), (13, 4)]);
        profile.note(100, 5);
        assert_eq!(profile.days(0, 100).collect::<Vec<_>>(), [(100, 5)]);
    }

    #[test]
    fn saturdays_and_sundays_are_weekends() {
        let weekend: Vec<Day> = (20_458..20_465).filter(|&day| is_weekend(day)).collect();
        assert_eq!(weekend, [20_463, 20_464], "2026-01-10 and -11");
    }
}
