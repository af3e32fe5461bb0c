//! A keyed stream: the events that meet one condition, by group; and the windows that count them.
//!
//! Rules with the same condition and `group-by` share one stream, so an event is matched and its group is found
//! once for all of them. Among these, rules with the same timespan, resolution and counted field share one
//! window: they differ only in what they decide.

mod groups;
mod intake;
mod saved;
mod shedding;
mod sieve;

use crate::detect::{Announced, Counted, Days, Detector, Profiles};
use crate::engine::Standing;
use crate::finding::Change;
use crate::key::{Fingerprint, Keyring};
use crate::plan::RulePlan;
use crate::prefetch::prefetch;
use crate::time::Micros;
use crate::watermark::StreamClock;
use crate::window::{Added, Arrivals, Arriving, Counts, Reading, Rows, Series, State, Swept};
use groups::Groups;
use intake::{Values, Work};
use rustc_hash::FxHashMap;
use sieve::Sieve;
use smallvec::SmallVec;
use uuid::Uuid;

pub(crate) use intake::{Grouping, Intake, Measure, Names, OpeningMeasure, OpeningSpec, StreamSpec, Taking};
pub use saved::Orphan;
pub(crate) use saved::WindowFate;

/// How many events go from stage to stage of counting together: enough for memory to come, few enough that it is still
/// in the first cache when it is used.
const BLOCK: usize = 3;
/// How often a group is looked at, to see whether it is over, while its days are kept.
const LOOKS: f64 = 4.0;

/// One window over the stream and the rules that decide by its counts.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) counts: Counts,
    /// What its rules decide by, where that is not the count.
    series: Option<Series>,
    pub(crate) detectors: Vec<Detector>,
    /// The counted or measured field's place among the stream's; `None` counts events.
    counted: Option<usize>,
    /// The least level any detector needs.
    floor: u64,
    /// The least count of which some rule has to hear: that, or any where one has a baseline.
    noted_from: u64,
    judging: bool,
    /// Whether some rule has a baseline, and so has to hear of every event.
    following: bool,
}

/// A rule of a plan and where it has its place in a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed<'p> {
    /// Which of the plan's.
    pub(crate) number: usize,
    pub(crate) plan: &'p RulePlan,
    /// What it counts, among what the stream counts; `None` for events.
    pub(crate) counted: Option<usize>,
    /// Where the stream has the values that say who are peers.
    pub(crate) peers: Option<usize>,
}

/// A shard's part of a keyed stream.
#[derive(Debug)]
pub(crate) struct KeyedStream {
    grouping: Grouping,
    /// How far behind the watermark it is.
    delay: Micros,
    /// Openings of late that it has counted: so none counts twice after a restart.
    heard: FxHashMap<Uuid, Micros>,
    sieve: Option<Sieve>,
    groups: Groups,
    pub(crate) windows: Vec<Window>,
    /// The windows that count values, by their places.
    of_values: Vec<usize>,
    /// Those that some rule with a baseline decides by.
    of_baselines: Vec<usize>,
    /// By slot: a group's state in each window.
    states: Rows<State>,
    arrivals: Arrivals,
    /// The watermark its state is up to, which after a restart can be ahead of the one in force.
    floor: Micros,
}

impl KeyedStream {
    /// A stream that counts by these rules of a plan: each with its number, and with the place of the field whose values
    /// it counts among the stream's.
    pub(crate) fn new<'p>(spec: &StreamSpec, days: Days, rules: impl Iterator<Item = Placed<'p>>) -> Self {
        let mut windows = Vec::new();
        rules.for_each(|rule| add(&mut windows, rule, days));
        Self {
            grouping: spec.grouping.clone(),
            delay: spec.delay,
            heard: FxHashMap::default(),
            sieve: spec.sieve.as_ref().map(|(plan, field)| Sieve::new(plan, days, *field)),
            groups: Groups::default(),
            of_values: (0..windows.len()).filter(|&at| windows[at].counts_values()).collect(),
            of_baselines: (0..windows.len()).filter(|&at| windows[at].following).collect(),
            states: Rows::new(windows.len()),
            arrivals: Arrivals::default(),
            floor: Micros::MIN,
            windows,
        }
    }

    /// A stream no rule counts by.
    pub(crate) fn empty() -> Self {
        Self::new(&StreamSpec::default(), Days { offset: 0 }, std::iter::empty())
    }

    pub(crate) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// By window: the numbers of the rules that decide by it.
    pub(crate) fn rules(&self) -> impl Iterator<Item = Vec<usize>> {
        self.windows.iter().map(|window| window.detectors.iter().map(|detector| detector.rule).collect())
    }

    /// Whether [`Self::sift`] has anything to do.
    pub(crate) fn has_sieve(&self) -> bool {
        self.sieve.is_some()
    }

    /// Takes out of a piece what does not count. Pieces come in order, and each before it is counted.
    pub(crate) fn sift(&mut self, intake: &mut Intake, keyring: &Keyring) {
        if let Some(sieve) = &mut self.sieve {
            sieve.sift(intake, keyring);
        }
    }

    /// Counts what was taken in of a piece and leaves the watermark before `until`; `clock` is as it stood before the piece.
    ///
    /// Events go through four stages, a block of them in each, and each stage asks for the memory the next one reads:
    /// so it has come when it is needed, and is asked for while others are being counted.
    pub(crate) fn count(
        &mut self,
        intake: &mut Intake,
        clock: StreamClock,
        until: Option<Micros>,
        names: &mut Names<'_>,
    ) {
        let Intake { work, done, values } = intake;
        let work = &mut work[*done..];
        let ahead = until.map(|until| work.partition_point(|one| one.watermark_with(clock) < until));
        let now = ahead.unwrap_or(work.len());
        let work = &mut work[..now];
        *done += now;
        let clock = clock.behind_by(self.delay).not_before(self.floor);
        let blocks = work.len().div_ceil(BLOCK);
        for at in 0..blocks + 3 {
            if let Some(block) = block(work, Some(at)) {
                for one in &*block {
                    self.groups.prefetch(one.print);
                }
            }
            if let Some(block) = block(work, at.checked_sub(1)) {
                self.look_up(block, values, names);
            }
            if let Some(block) = block(work, at.checked_sub(2)) {
                self.look_further(block);
            }
            if let Some(block) = block(work, at.checked_sub(3)) {
                for one in &*block {
                    self.count_one(one, clock.watermark_after(one.newest), values, names);
                }
            }
        }
        if intake.done == intake.work.len() {
            intake.clear();
        }
    }

    /// Finds the groups, or makes them where they are new.
    fn look_up(&mut self, block: &mut [Work], values: &Values, names: &mut Names<'_>) {
        for one in block {
            match self.groups.find(one.print) {
                Some(slot) => {
                    one.slot = slot;
                    self.states.get(slot).into_iter().flatten().for_each(prefetch);
                }
                None => one.slot = self.slot(one, names),
            }
            for window in self.of_values.iter().map(|&at| &self.windows[at]) {
                window.counts.prefetch(one.slot, window.values(values, one));
            }
        }
    }

    /// Asks for what lies outside of a group.
    fn look_further(&self, block: &[Work]) {
        for one in block {
            let states = self.states.get(one.slot).unwrap_or_default();
            for (window, state) in self.windows.iter().zip(states) {
                window.counts.prefetch_panes(state);
            }
            for window in self.of_baselines.iter().map(|&at| &self.windows[at]) {
                let profiles = window.detectors.iter().filter_map(Detector::profiles);
                profiles.for_each(|profiles| profiles.prefetch(one.slot));
            }
        }
    }

    /// Counts an event in its group.
    fn count_one(&mut self, one: &Work, watermark: Micros, values: &Values, names: &mut Names<'_>) {
        let Work { slot, time, .. } = *one;
        if time < watermark && self.windows.iter().all(|window| window.counts.is_beyond(time, watermark)) {
            return;
        }
        let Some(states) = self.states.get_mut(slot) else { return };
        let Some(first) = states.first_mut() else { return };
        let newest = time >= first.newest;
        first.newest = time.max(first.newest);
        let number = self.arrivals.push(slot, time, first.last_arrival);
        first.last_arrival = number;
        let event = Arriving { slot, time, watermark, number };
        // Most events change nothing a rule decides by.
        let mut of_note: SmallVec<[(usize, Added); 8]> = SmallVec::new();
        for (at, (window, state)) in self.windows.iter_mut().zip(states).enumerate() {
            if let Some(added) = window.count(state, event, (values, one)) {
                of_note.push((at, added));
            }
        }
        if !of_note.is_empty() {
            self.decide(one, event, newest, &of_note, values, names);
        }
    }

    /// Has the rules decide anew by what counting an event came to in some windows.
    #[inline(never)]
    fn decide(
        &mut self,
        one: &Work,
        Arriving { slot, time, watermark, .. }: Arriving,
        newest: bool,
        of_note: &[(usize, Added)],
        values: &Values,
        names: &mut Names<'_>,
    ) {
        for &(at, added) in of_note {
            let Window { counts, series, detectors, floor, judging, following, .. } = &mut self.windows[at];
            let reading = Reading::new(counts, series.as_ref(), &self.states, &self.arrivals);
            let event = Counted { slot, time, pane: added.pane, watermark, newest };
            let names = &mut || names.of(one, &self.grouping);
            if *judging && added.new_pane {
                for detector in &mut *detectors {
                    detector.changes_at(reading, slot, added.pane);
                }
            }
            if series.is_some() {
                for detector in &mut *detectors {
                    detector.measure(reading, event, added, names);
                }
                continue;
            }
            if *following {
                for detector in &mut *detectors {
                    let peers = detector.profiles().and_then(|profiles| profiles.peers_at);
                    let peer = peers.and_then(|field| values.of(one, field).first().copied());
                    detector.follow(reading, event, added, peer, names);
                }
            }
            if !added.in_order {
                for detector in detectors.iter_mut().filter(|detector| detector.profiles().is_none()) {
                    detector.out_of_order(reading, event, names);
                }
            } else if added.total >= *floor {
                for detector in detectors.iter_mut().filter(|detector| added.total >= detector.need) {
                    detector.hold(reading, event, names);
                }
            }
        }
    }

    /// The slot of a group, which may be new.
    #[cold]
    fn slot(&mut self, work: &Work, names: &mut Names<'_>) -> u32 {
        let (slot, is_new) = self.groups.find_or_add(work.print);
        if is_new {
            self.states.reach(slot);
            let states = self.states.get_mut(slot).unwrap_or_default();
            for (window, state) in self.windows.iter_mut().zip(&mut *states) {
                window.clear(slot, state);
            }
            if let Some(first) = states.first_mut() {
                (first.newest, first.last_arrival) = (Micros::MIN, self.arrivals.none());
            }
            for window in self.windows.iter_mut().filter(|window| window.judging) {
                let names = names.of(work, &self.grouping);
                let (reading, detectors) = window.decisions(&self.states, &self.arrivals);
                for detector in detectors {
                    detector.start_judging(reading, slot, &names);
                }
            }
        }
        slot
    }

    /// Brings everything up to the watermark at the end of a batch and tells what came of it.
    pub(crate) fn settle(&mut self, watermark: Micros, changes: &mut Vec<Change>) {
        let watermark = self.own_watermark(watermark);
        if self.delay > 0 {
            self.floor = watermark;
            let longest = self.windows.iter().map(|window| window.counts.timespan()).max().unwrap_or(0);
            self.heard.retain(|_, time| *time >= watermark.saturating_sub(longest));
        }
        if let Some(sieve) = &mut self.sieve {
            sieve.settle(watermark);
        }
        // A group is done with when the longest window is, so that one sets the pace.
        let mut share: f64 = 1.0;
        for window in &mut self.windows {
            let pane = window.counts.pane(watermark);
            let (reading, detectors) = window.decisions(&self.states, &self.arrivals);
            for detector in &mut *detectors {
                detector.settle(reading, pane, changes);
            }
            // Where days are kept for longer than that, groups are looked at a few times in so long.
            let kept = detectors.iter().filter_map(Detector::profiles).map(Profiles::pace);
            let looked_at = (LOOKS * kept.fold(1.0, f64::min)).min(1.0);
            share = share.min(looked_at * window.counts.settle(watermark));
        }
        let before = self.arrivals.first();
        self.arrivals.trim(watermark);
        for window in &mut self.windows {
            window.counts.trim(before, self.arrivals.first());
        }
        if share > 0.0 {
            let Self { windows, states, arrivals, .. } = self;
            self.groups.sweep(share, |slot, when| {
                if when == Swept::Soon {
                    states.get(slot).into_iter().flatten().for_each(prefetch);
                    return false;
                }
                // Every window is asked: one that is done with the group lets go of its part at once.
                let mut over = true;
                for window in &mut *windows {
                    over &= window.let_go(slot, states, arrivals);
                }
                if over {
                    let detectors = windows.iter_mut().flat_map(|window| &mut window.detectors);
                    detectors.for_each(|detector| detector.forget(slot));
                }
                over
            });
        }
    }

    /// Where this stream is when the watermark is at `watermark`.
    fn own_watermark(&self, watermark: Micros) -> Micros {
        let own = if watermark == Micros::MAX { watermark } else { watermark.saturating_sub(self.delay) };
        own.max(self.floor)
    }

    /// Counts openings, of those at hand the ones that were taken in.
    pub(crate) fn count_openings(&mut self, intake: &mut Intake, openings: &[Announced], spec: &StreamSpec) {
        let heard = &mut self.heard;
        intake.retain_openings(|at| {
            let opening = &openings[at];
            heard.insert(opening.id, opening.time).is_none()
        });
        let clock = StreamClock::standing(self.floor.saturating_add(self.delay));
        self.count(intake, clock, None, &mut Names::Openings { openings, spec });
    }

    /// Has the openings of some rules' findings kept.
    pub(crate) fn announce(&mut self, rules: &[usize]) {
        let detectors = self.windows.iter_mut().flat_map(|window| &mut window.detectors);
        detectors.filter(|detector| rules.contains(&detector.rule)).for_each(Detector::announce);
    }

    /// What has come to be final of its rules' openings.
    pub(crate) fn take_announced(&mut self) -> impl Iterator<Item = Announced> {
        let detectors = self.windows.iter_mut().flat_map(|window| &mut window.detectors);
        detectors.flat_map(Detector::take_announced)
    }

    /// Findings whose figures changed since they were last told of.
    pub(crate) fn updates(&mut self, changes: &mut Vec<Change>) {
        for window in &mut self.windows {
            let (reading, detectors) = window.decisions(&self.states, &self.arrivals);
            for detector in detectors {
                detector.updates(reading, changes);
            }
        }
    }

    /// How the group of this fingerprint stands with a rule in the window that ends with the pane of `time`.
    pub(crate) fn standing(&mut self, rule: usize, print: Fingerprint, time: Micros) -> Option<Standing> {
        let slot = self.groups.find(print)?;
        for window in &mut self.windows {
            let pane = window.counts.pane(time);
            let (reading, detectors) = window.decisions(&self.states, &self.arrivals);
            if let Some(detector) = detectors.iter_mut().find(|detector| detector.rule == rule) {
                let level = reading.levels(slot, pane, pane).first().map_or(0, |&(_, _, level)| level);
                return Some(detector.standing(slot, level, time));
            }
        }
        None
    }

    /// Each rule at work and the largest count any group reached within its timespan before `newest`.
    pub(crate) fn detectors(&self, newest: Option<Micros>) -> impl Iterator<Item = (&Detector, u64)> {
        self.windows.iter().flat_map(move |Window { counts, series, detectors, .. }| {
            let largest = newest.map_or(0, |newest| match series {
                Some(series) => series.largest(counts.pane(newest)),
                None => counts.largest(newest),
            });
            detectors.iter().map(move |detector| (detector, largest))
        })
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let of_window = |window: &Window| {
            window.counts.heap_bytes() + window.series.as_ref().map_or(0, Series::heap_bytes)
        };
        let windows: usize = self.windows.iter().map(of_window).sum();
        let detectors = self.windows.iter().flat_map(|window| &window.detectors);
        let windows = windows + detectors.map(Detector::heap_bytes).sum::<usize>();
        let sieve = self.sieve.as_ref().map_or(0, Sieve::heap_bytes);
        self.groups.heap_bytes() + self.states.heap_bytes() + self.arrivals.heap_bytes() + windows + sieve
    }
}

/// Adds a rule, to a window that counts what it needs or to one of its own.
fn add(windows: &mut Vec<Window>, rule: Placed<'_>, days: Days) {
    let Placed { number, plan, counted, peers } = rule;
    let span = (plan.timespan_ms / plan.resolution_ms) as u32;
    let resolution = plan.resolution_ms as Micros * 1000;
    let profiles = plan.baseline.as_ref().map(|baseline| Profiles::new(baseline, plan, days, peers));
    let following = profiles.is_some();
    let detector = Detector::new(plan, number, profiles);
    let noted_from = if following { 0 } else { detector.need };
    let same = |window: &&mut Window| {
        (window.counts.span, window.counts.resolution, window.counted) == (span, resolution, counted)
            && window.series.as_ref().map(Series::measure) == plan.measure.as_ref()
    };
    if let Some(window) = windows.iter_mut().find(same) {
        window.floor = window.floor.min(detector.need);
        window.judging |= detector.is_judging();
        window.following |= following;
        window.noted_from = window.noted_from.min(noted_from);
        window.detectors.push(detector);
    } else {
        windows.push(Window {
            counts: Counts::new(span, resolution, counted.is_some() && plan.measure.is_none(), windows.len()),
            series: plan.measure.as_ref().map(|measure| Series::new(measure, span)),
            counted,
            floor: detector.need,
            noted_from,
            judging: detector.is_judging(),
            following,
            detectors: vec![detector],
        });
    }
}

/// The `at`th block, if there is one.
#[inline]
fn block(work: &mut [Work], at: Option<usize>) -> Option<&mut [Work]> {
    let from = at? * BLOCK;
    let to = work.len().min(from + BLOCK);
    (from < to).then(|| &mut work[from..to])
}

impl Window {
    /// Whether it counts distinct values, rather than events or something measured.
    fn counts_values(&self) -> bool {
        self.counted.is_some() && self.series.is_none()
    }

    /// The values an event has for this window.
    #[inline]
    fn values<'v>(&self, values: &'v Values, work: &'v Work) -> &'v [Fingerprint] {
        self.counted.map_or(&[], |field| values.of(work, field))
    }

    /// Counts an event in its group's state. Returns what it came to where some rule has to decide anew.
    #[inline]
    fn count(&mut self, state: &mut State, event: Arriving, of: (&Values, &Work)) -> Option<Added> {
        let Self { counts, series, detectors, counted, floor, noted_from, judging, .. } = self;
        let fell = |last, before, after, events| {
            for detector in &mut *detectors {
                detector.fell(event.slot, last, before, after, events);
            }
        };
        let added = match *counted {
            None => counts.add(state, event, *floor, fell),
            Some(field) if series.is_none() => {
                counts.add_values(state, event, of.0.of(of.1, field), *floor, fell)
            }
            Some(field) => return self.measure(state, event, of.0.of(of.1, field)),
        };
        added.filter(|added| added.total >= *noted_from || !added.in_order || *judging && added.new_pane)
    }

    /// Measures an event in its group. Returns what counting it came to where some rule has to decide anew.
    fn measure(&mut self, state: &mut State, event: Arriving, data: &[u64]) -> Option<Added> {
        let added = self.counts.add(state, event, u64::MAX, |_, _, _, _| ())?;
        let (span, settled) = (self.counts.span, self.counts.settled());
        let series = self.series.as_mut()?;
        series.add(event.slot, (added.pane, event.time), data, (settled.saturating_sub(span + 1), settled));
        let decides = !added.in_order
            || self.judging && added.new_pane
            || series.may_have_come_to(event.slot, self.floor);
        decides.then_some(added)
    }

    /// What is read, and who decides by it.
    fn decisions<'w>(
        &'w mut self,
        states: &'w Rows<State>,
        arrivals: &'w Arrivals,
    ) -> (Reading<'w>, &'w mut [Detector]) {
        let Self { counts, series, detectors, .. } = self;
        (Reading::new(counts, series.as_ref(), states, arrivals), detectors)
    }

    fn reading<'w>(&'w self, states: &'w Rows<State>, arrivals: &'w Arrivals) -> Reading<'w> {
        Reading::new(&self.counts, self.series.as_ref(), states, arrivals)
    }

    /// Forgets what the window has of a group.
    fn clear(&mut self, slot: u32, state: &mut State) {
        self.counts.clear(state);
        if let Some(series) = &mut self.series {
            series.clear(slot);
        }
    }

    /// Forgets a group that no window can reach and no finding needs. Returns whether it was one.
    fn let_go(&mut self, slot: u32, states: &mut Rows<State>, arrivals: &Arrivals) -> bool {
        let over = self.reading(states, arrivals).is_over(slot)
            && !self.detectors.iter().any(|detector| detector.keeps(slot));
        if over && let Some(state) = states.get_mut(slot).and_then(|states| states.get_mut(self.counts.place))
        {
            self.clear(slot, state);
        }
        over
    }
}
