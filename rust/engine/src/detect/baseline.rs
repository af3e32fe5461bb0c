//! Baselines: thresholds derived from the expected count of a group or of its peers.
//!
//! Each group has a [`Profile`]: its largest count of each day, for as many days as the plan says. The expected count
//! of a day is computed from earlier days (`custodes.baseline.of` in the rule; docs/design/baselines.md defines it
//! exactly):
//! - *own* (`self`): a quantile of the group's days of the same kind (working days or weekends);
//! - *peers*: for each of the last such days, the median over the peer group, or over all groups; then the largest;
//! - *both*: the group's usual ratio to its peers, times the peers' current value. A campaign in which a whole
//!   department does more raises all its thresholds; a single member who does more stands out.
//!
//! A day is *closed* when the watermark has passed it. The expected count uses neither the current day nor the day
//! before, because out-of-order events can still change them, nor days whose windows overlap the current one, because a
//! slow rise would raise its own threshold. All days that are used are therefore final before the current day begins,
//! and findings do not depend on the arrival order as long as the watermark lags less than a day.
//!
//! A baseline condition is evaluated only in panes that contain events.
//!
//! Cost: 4 bytes per group and stored day, plus the 96 bytes of a [`Profile`] per group. An event costs one look-up;
//! the threshold of a day is computed once per group and cached.

use super::finding::Threshold;
use crate::foundation::calendar::{Day, Days, is_weekend};
use crate::foundation::codec::{Damaged, StateReader, StateWriter};
use crate::foundation::fingerprint::Fingerprint;
use crate::foundation::prefetch::prefetch;
use crate::foundation::time::Micros;
use crate::plan::{BaselineOf, BaselinePlan, RulePlan};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// Age in days of the newest day used for peers; the day before the current one can still change.
const PEERS_LAG: Day = 2;
/// Number of days searched for peers, long enough to span holidays and weekends.
const PEERS_REACH: Day = 14;

/// Statistics of a peer group on one day.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeerStats {
    /// Median count.
    count: f64,
    /// Median number of days with events in the window.
    worked: f64,
}

/// By peer group: count on the day and number of days with events in the window, for each group.
pub(crate) type ByPeer = FxHashMap<Fingerprint, Vec<(f64, f64)>>;

/// The days of one group.
#[derive(Debug, Clone)]
struct Profile {
    /// Peer group named by the newest event.
    peer: Fingerprint,
    /// Previous peer group, while windows still contain events from it.
    former: Option<Fingerprint>,
    newest: Micros,
    /// First day with events since the group joined its peer group.
    first: Day,
    /// Largest count per day, as a ring buffer indexed by the day modulo its length; `last` is the newest day.
    peaks: Box<[u32]>,
    last: Day,
    /// Largest count of the newest day, copied here to avoid a cache miss.
    last_peak: u32,
    /// Cached threshold and its day.
    threshold: Option<(Day, Threshold)>,
}

/// The profiles of one baseline rule in one shard.
#[derive(Debug)]
pub(crate) struct Profiles {
    plan: BaselinePlan,
    /// Smallest possible threshold: that of the rule itself.
    floor: u64,
    days: Days,
    /// Days that a window covers, rounded up.
    span: Day,
    /// Index of the value source that names the peer group.
    pub(crate) peer_value_index: Option<usize>,
    state: BaselineState,
    /// Newest day and its largest ratio of count to threshold.
    closest: (Day, f64),
}

/// Saved state of a baseline.
#[derive(Debug, Default)]
pub(crate) struct BaselineState {
    /// By slot.
    groups: Vec<Option<Profile>>,
    /// Peer statistics by peer group and closed day.
    peer_stats: FxHashMap<Fingerprint, BTreeMap<Day, PeerStats>>,
    /// First day that is not closed; 0 before the first event.
    today: Day,
    /// First day with events, if any.
    began: Option<Day>,
}

impl Profiles {
    /// Creates profiles without history.
    pub(crate) fn new(
        plan: &BaselinePlan,
        rule: &RulePlan,
        days: Days,
        peer_value_index: Option<usize>,
    ) -> Self {
        let span_days = rule.timespan_ms.div_ceil(86_400_000) as Day;
        Self {
            plan: plan.clone(),
            floor: rule.floor().unwrap_or(1),
            days,
            span: span_days,
            peer_value_index,
            state: BaselineState::default(),
            closest: (0, 0.0),
        }
    }

    pub(crate) fn floor(&self) -> u64 {
        self.floor
    }

    /// Age in days of the newest day used for the group's own expected count.
    fn own_lag(&self) -> Day {
        self.span + 1
    }

    /// Number of days stored per group: those used for the expected count, the newest that are not used, and one window
    /// before the first, which is needed for its presence.
    fn kept(&self) -> usize {
        let own = self.plan.over_days + self.own_lag() + self.span;
        let days = if self.plan.of == BaselineOf::Peers { 0 } else { own };
        days.max(PEERS_LAG).max(self.span) as usize + 1
    }

    /// Records that a group's count reached `count` on the day of `time`. If the event is the group's newest
    /// (`newest`), its peer group becomes the group's.
    pub(crate) fn record(
        &mut self,
        slot: u32,
        time: Micros,
        count: u64,
        peer: Option<Fingerprint>,
        newest: bool,
    ) {
        let (day, kept, span) = (self.days.day(time), self.kept(), self.span);
        let slot = slot as usize;
        if slot >= self.state.groups.len() {
            self.state.groups.resize_with(slot + 1, || None);
        }
        let profile = self.state.groups[slot].get_or_insert_with(|| Profile {
            peer: 0,
            former: None,
            newest: Micros::MIN,
            first: day,
            peaks: vec![0; kept].into_boxed_slice(),
            last: day,
            last_peak: 0,
            threshold: None,
        });
        profile.first = profile.first.min(day);
        self.state.began = Some(self.state.began.map_or(day, |began| began.min(day)));
        if newest && let Some(peer) = peer {
            // Among events of the same time the larger fingerprint wins, so that the arrival order does not matter.
            let peer = if time == profile.newest { peer.max(profile.peer) } else { peer };
            if peer != profile.peer && profile.newest != Micros::MIN {
                // A new peer group means different work: restart the group's own history.
                let has_both = profile.last + span >= day;
                (profile.first, profile.threshold) = (day, None);
                profile.former = has_both.then_some(profile.peer);
            }
            (profile.peer, profile.newest) = (peer, time);
        }
        profile.note(day, u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Prefetches the memory that [`Self::record`] reads.
    #[inline]
    pub(crate) fn prefetch(&self, slot: u32) {
        if let Some(group) = self.state.groups.get(slot as usize) {
            prefetch(group);
        }
    }

    /// Records a count below the smallest possible threshold, for the gauge of [`Self::closest`].
    pub(crate) fn note_below_floor(&mut self, time: Micros, count: u64) {
        self.note_ratio(time, count, Threshold { need: self.floor, expected: None });
    }

    /// Ratio of the window length to the retention of a group's days, at most 1: how much slower than its windows a
    /// group expires.
    pub(crate) fn pace(&self) -> f64 {
        f64::from(self.span) / f64::from(self.kept() as Day)
    }

    /// Threshold of a group on the day of `time`; `None` if nothing is expected yet and the plan sets no initial
    /// threshold.
    pub(crate) fn threshold(&mut self, slot: u32, time: Micros) -> Option<Threshold> {
        let day = self.days.day(time);
        let profile = self.state.get(slot)?;
        if let Some((known, threshold)) = profile.threshold
            && known == day
        {
            return Some(threshold).filter(|threshold| threshold.need < u64::MAX);
        }
        let expected = self.expected(profile, day);
        let need = match expected {
            Some((expected, factor)) => ((factor * expected).ceil() as u64).max(self.floor),
            None => self.plan.cold.map_or(u64::MAX, |cold| cold.max(self.floor)),
        };
        let threshold = Threshold { need, expected: expected.map(|(expected, _)| expected) };
        // While the watermark lags, further days can still become known; do not cache.
        let is_final = self.state.today + 1 >= day;
        if let Some(Some(profile)) = self.state.groups.get_mut(slot as usize) {
            profile.threshold = Some((day, threshold)).filter(|_| is_final);
        }
        Some(threshold).filter(|threshold| threshold.need < u64::MAX)
    }

    /// Records the ratio of a count to its threshold on the day of `time`.
    pub(crate) fn note_ratio(&mut self, time: Micros, count: u64, threshold: Threshold) {
        let (day, ratio) = (self.days.day(time), count as f64 / threshold.need as f64);
        if day > self.closest.0 {
            self.closest = (day, ratio);
        } else if day == self.closest.0 {
            self.closest.1 = self.closest.1.max(ratio);
        }
    }

    /// Largest ratio of count to threshold on the newest day.
    pub(crate) fn closest(&self) -> f64 {
        self.closest.1
    }

    /// Expected count and the factor that makes the threshold.
    fn expected(&self, profile: &Profile, day: Day) -> Option<(f64, f64)> {
        let BaselinePlan { factor, stranger_factor, .. } = self.plan;
        let former = profile.former.filter(|_| day < profile.first + self.span);
        let peers = || {
            let peer_stats =
                former.into_iter().chain([profile.peer]).filter_map(|peer| self.peer_level(peer, day));
            peer_stats.max_by(f64::total_cmp)
        };
        match self.plan.of {
            BaselineOf::Peers => peers().map(|expected| (expected, factor)),
            BaselineOf::Own => {
                let plain = |_, peak| Some((f64::from(peak), 1.0));
                let own = self.own(profile, day, plain);
                let from_peers = || peers().map(|expected| (expected, stranger_factor));
                own.map(|(expected, correction)| (expected, factor * correction)).or_else(from_peers)
            }
            BaselineOf::Both => {
                let peer_stats = self.state.peer_stats.get(&profile.peer);
                let ratio_to_peers = |day: Day, peak: u32| {
                    let level = peer_stats?.get(&day)?;
                    (level.count > 0.0).then(|| (f64::from(peak) / level.count, level.worked))
                };
                let level = peers()?;
                let own = self.own(profile, day, ratio_to_peers);
                Some(
                    own.map_or((level, stranger_factor), |(own, correction)| {
                        (own * level, factor * correction)
                    }),
                )
            }
        }
    }

    /// Expected value of a measure over the group's own days, and a correction of the factor, at least 1, for small
    /// samples. Uses days of the same kind if there are enough of them; `None` if there are too few days. `measure`
    /// returns the value of a day, and the number of days in its window on which the reference was active: the peers'
    /// median, or 1 to compare only the group's own windows.
    fn own(
        &self,
        profile: &Profile,
        day: Day,
        measure: impl Fn(Day, u32) -> Option<(f64, f64)>,
    ) -> Option<(f64, f64)> {
        let last = day.checked_sub(self.own_lag())?;
        // Windows before this day were not full.
        let full = profile.first + self.span;
        // Fewer days than the window's length have mostly overlapping windows: one observation.
        if self.span > 1 && last + 1 < full + self.span {
            return None;
        }
        let first = (last + 1).saturating_sub(self.plan.over_days).max(full);
        // Per window: day, measure, and presence: the group's active days divided by the reference's.
        let windows = profile.windows(first, last, self.span).into_iter();
        let windows: Vec<(Day, f64, f64)> = windows
            .filter_map(|(day, peak, worked)| {
                let (measured, active_days) = measure(day, peak)?;
                Some((day, measured, worked / active_days))
            })
            .collect();
        let most = windows.iter().map(|&(.., share)| share).fold(0.0, f64::max);
        // Scale up windows in which the group was partly absent.
        let whole = windows.into_iter().filter(|&(.., share)| share * 2.0 >= most);
        let all: Vec<(Day, f64)> =
            whole.map(|(day, measured, share)| (day, measured * (most / share))).collect();
        let alike: Vec<f64> =
            all.iter().filter(|&&(known, _)| self.are_alike(known, day)).map(|&(_, value)| value).collect();
        let enough = self.plan.least_days as usize;
        let days =
            if alike.len() >= enough { alike } else { all.into_iter().map(|(_, value)| value).collect() };
        if days.len() < enough {
            return None;
        }
        let correction = 1.0 + f64::from(self.span) / (2.0 * f64::from(last + 1 - first));
        Some((quantile(days, self.plan.quantile)?, correction))
    }

    /// Expected count of a peer group: the largest median of its recent days of the same kind, or of any kind if there
    /// are none. The largest, because the days after a holiday have higher counts than the holiday.
    fn peer_level(&self, peer: Fingerprint, day: Day) -> Option<f64> {
        let last = day.checked_sub(PEERS_LAG)?;
        let known = self.state.peer_stats.get(&peer)?.range(last.saturating_sub(PEERS_REACH)..=last);
        let alike = known.clone().filter(|&(&known, _)| self.are_alike(known, day));
        let counts = alike.map(|(_, level)| level.count).max_by(f64::total_cmp);
        counts.or_else(|| known.map(|(_, level)| level.count).max_by(f64::total_cmp))
    }

    /// Whether two days are of the same kind: working days or weekends. A window of a week or longer contains both.
    fn are_alike(&self, day: Day, other: Day) -> bool {
        self.span >= 7 || is_weekend(day) == is_weekend(other)
    }

    /// Whether the group's days are still needed.
    pub(crate) fn keeps(&self, slot: u32) -> bool {
        let kept = self.kept() as Day;
        let profile = self.state.get(slot);
        profile.is_some_and(|profile| profile.last.saturating_add(kept) >= self.state.today)
    }

    pub(crate) fn remove_group(&mut self, slot: u32) {
        if let Some(group) = self.state.groups.get_mut(slot as usize) {
            *group = None;
        }
    }

    /// First day on which windows can be full; `None` before the first event.
    pub(crate) fn full_from(&self) -> Option<Day> {
        self.state.began.map(|began| began + self.span)
    }

    /// The days that `watermark` has passed and that are not closed yet.
    pub(crate) fn over(&self, watermark: Micros) -> std::ops::Range<Day> {
        let today = self.days.day(watermark);
        let first = self.state.today.max(today.saturating_sub(self.kept() as Day));
        if watermark == Micros::MAX { 0..0 } else { first..today }
    }

    /// Adds the counts of this shard's groups on a day to `by_peer`.
    pub(crate) fn on(&self, day: Day, by_peer: &mut ByPeer) {
        for profile in self.state.groups.iter().flatten() {
            if let Some((_, peak)) = profile.days(day, day).next() {
                let worked = profile.days((day + 1).saturating_sub(self.span), day).count();
                by_peer.entry(profile.peer).or_default().push((f64::from(peak), worked as f64));
            }
        }
    }

    /// Closes the days before `today` and stores their peer statistics.
    pub(crate) fn close(&mut self, today: Day, peer_stats: &[(Day, FxHashMap<Fingerprint, PeerStats>)]) {
        self.state.today = today;
        for (day, by_peer) in peer_stats {
            for (&peer, &level) in by_peer {
                self.state.peer_stats.entry(peer).or_default().insert(*day, level);
            }
        }
        let first = today.saturating_sub((self.kept() as Day).max(PEERS_REACH + PEERS_LAG + 1));
        self.state.peer_stats.retain(|_, days| {
            *days = days.split_off(&first);
            !days.is_empty()
        });
    }

    /// Statistics of a peer group from (count, active days) per group; `None` if there are too few groups.
    pub(crate) fn among(&self, groups: Vec<(f64, f64)>) -> Option<PeerStats> {
        if groups.len() < self.plan.least_peers as usize {
            return None;
        }
        let (counts, worked) = groups.into_iter().unzip();
        Some(PeerStats { count: quantile(counts, 0.5)?, worked: quantile(worked, 0.5)? })
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let days = self.state.groups.iter().flatten().count() * self.kept() * size_of::<u32>();
        self.state.groups.capacity() * size_of::<Option<Profile>>() + days
    }

    pub(crate) fn save(&self, to: &mut StateWriter) {
        self.state.save(to);
    }

    /// Restores the state of a rule that stores the same days.
    pub(crate) fn resume_from(&mut self, state: BaselineState) {
        let kept = self.kept();
        self.state = state;
        for group in &mut self.state.groups {
            group.take_if(|profile| profile.peaks.len() != kept);
        }
    }
}

impl BaselineState {
    fn get(&self, slot: u32) -> Option<&Profile> {
        self.groups.get(slot as usize)?.as_ref()
    }

    fn save(&self, to: &mut StateWriter) {
        to.u32(self.today);
        to.flag(self.began.is_some());
        to.u32(self.began.unwrap_or_default());
        to.list(self.groups.iter(), |to, group| {
            to.flag(group.is_some());
            if let Some(profile) = group {
                profile.save(to);
            }
        });
        to.list(self.peer_stats.iter(), |to, (&peer, days)| {
            to.u64(peer);
            to.list(days.iter(), |to, (&day, &level)| {
                to.u32(day);
                to.u64(level.count.to_bits());
                to.u64(level.worked.to_bits());
            });
        });
    }

    pub(crate) fn load(from: &mut StateReader<'_>) -> Result<Self, Damaged> {
        let (today, has_begun) = (from.u32()?, from.flag()?);
        let began = Some(from.u32()?).filter(|_| has_begun);
        let groups =
            from.list(1, |from| if from.flag()? { Profile::load(from).map(Some) } else { Ok(None) })?;
        let peer_stats = from.list(16, |from| {
            let peer = from.u64()?;
            let days = from.list(20, |from| {
                let day = from.u32()?;
                let (count, worked) = (f64::from_bits(from.u64()?), f64::from_bits(from.u64()?));
                Ok((day, PeerStats { count, worked }))
            })?;
            Ok((peer, days))
        })?;
        Ok(Self { groups, peer_stats, today, began })
    }
}

impl Profile {
    fn save(&self, to: &mut StateWriter) {
        to.u64(self.peer);
        to.flag(self.former.is_some());
        to.u64(self.former.unwrap_or_default());
        to.i64(self.newest);
        to.u32(self.first);
        to.u32(self.last);
        to.list(self.peaks.iter(), |to, &peak| to.u32(peak));
    }

    fn load(from: &mut StateReader<'_>) -> Result<Self, Damaged> {
        let (peer, has_moved, former) = (from.u64()?, from.flag()?, from.u64()?);
        let (newest, first, last) = (from.i64()?, from.u32()?, from.u32()?);
        let peaks: Vec<u32> = from.list(4, StateReader::u32)?;
        if peaks.is_empty() {
            return Err(Damaged("a group has no days"));
        }
        let (former, last_peak) = (has_moved.then_some(former), peaks[last as usize % peaks.len()]);
        let peaks = peaks.into_boxed_slice();
        Ok(Self { peer, former, newest, first, peaks, last, last_peak, threshold: None })
    }

    /// Records a day's count.
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

    /// The days in `first..=last` with events: day, largest count, and number of days with events in the window of
    /// `span` days that ends on it.
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

    /// The days in `first..=last` with events, with their largest counts.
    fn days(&self, first: Day, last: Day) -> impl Iterator<Item = (Day, u32)> {
        let within = (first..=last).filter(|&day| self.is_kept(day));
        within.map(|day| (day, self.peaks[day as usize % self.peaks.len()])).filter(|&(_, peak)| peak > 0)
    }
}

/// A quantile with linear interpolation between neighbours.
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
    fn old_days_are_overwritten() {
        let mut profile = Profile {
            peer: 0,
            former: None,
            newest: 0,
            first: 10,
            peaks: vec![0; 3].into_boxed_slice(),
            last: 10,
            last_peak: 0,
            threshold: None,
        };
        for (day, count) in [(10, 1), (12, 3), (11, 2), (13, 4), (13, 2), (10, 9)] {
            profile.note(day, count);
        }
        assert_eq!(profile.days(9, 20).collect::<Vec<_>>(), [(11, 2), (12, 3), (13, 4)]);
        profile.note(100, 5);
        assert_eq!(profile.days(0, 100).collect::<Vec<_>>(), [(100, 5)]);
    }
}
