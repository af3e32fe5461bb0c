//! A keyed stream: the events that meet one condition, partitioned by group, with the windows that count them. A group
//! is what Flink calls a key; a shard, with a quarter of all groups, corresponds to a key group.
//!
//! An event passes through this folder in this order: [`routing`] finds its groups in an ingest worker and appends it
//! to the batches of their shards; [`novelty`] may drop it; [`KeyedStream::count`] looks up the group's slot
//! ([`groups`]), counts the event in each [`Window`], and calls the window's detectors if the event may change a
//! finding. At the end of the batch, [`KeyedStream::advance_watermark`] evaluates deferred rules, closes findings and
//! expires idle groups.
//!
//! There are two watermarks. Each event is compared with the watermark after the events before it in the stream, which
//! does not depend on batch boundaries. Panes expire by the watermark at the end of the last batch.
//!
//! Rules with the same condition and `group-by` share one keyed stream, so each event is matched and its group is
//! looked up once for all of them. Within a stream, rules with the same timespan, resolution and counted field share
//! one [`Window`] and differ only in their [`Detector`].
//!
//! Layout: [`Groups`] assigns each group a slot number. `states` holds one row per slot with one [`State`] per
//! window. [`LatenessBuffer`] keeps copies of the events that the watermark has not passed.
//!
//! Invariant: a slot belongs to one group until every window has expired it and no detector needs it; then
//! [`KeyedStream::advance_watermark`] clears all its state and frees the slot. If memory is short, [`eviction`] does so
//! earlier.
//!
//! Cost: O(1) amortised per event and window. Each shard has its own `KeyedStream` per stream, and only one thread
//! uses a shard at a time, so there are no locks.

mod eviction;
mod groups;
mod mapping;
mod novelty;
mod resume;
mod routing;
mod saved;

pub use mapping::OrphanedFinding;
pub(crate) use mapping::WindowMapping;
pub(crate) use resume::Resume;
pub(crate) use routing::{
    GroupNames, Grouping, KeyedBatch, OpeningSpec, OpeningValueSource, RouteContext, StreamSpec, ValueSource,
};

use crate::detect::{Change, CountedEvent, Detector, FinalOpening, GroupStatus, Profiles};
use crate::foundation::calendar::Days;
use crate::foundation::fingerprint::{Fingerprint, Fingerprinter};
use crate::foundation::prefetch::prefetch;
use crate::foundation::time::Micros;
use crate::foundation::watermark::StreamClock;
use crate::plan::RulePlan;
use crate::window::{
    Aggregates, ChunkedVec, CountUpdate, Counts, LatenessBuffer, NewEvent, State, Swept, WindowView,
};
use groups::Groups;
use novelty::NoveltyFilter;
use routing::{EventValues, KeyedEvent};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use uuid::Uuid;

/// Number of events in each prefetch stage. Larger blocks give memory more time to arrive; with more than three, the
/// first lines are evicted from the L1 cache before they are used.
const BLOCK: usize = 3;
/// Number of times each group is swept while its baseline days are kept, if they outlive the window.
const SWEEPS_PER_RETENTION: f64 = 4.0;

/// One window over the stream, and the rules that evaluate its counts.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) counts: Counts,
    /// Aggregated measure that the rules evaluate instead of the count, if any.
    aggregates: Option<Aggregates>,
    pub(crate) detectors: Vec<Detector>,
    /// Index of the counted or measured field among the stream's value sources; `None` to count events.
    counted: Option<usize>,
    /// Smallest fixed threshold of any detector; `u64::MAX` if all rules are deferred or have a baseline.
    min_threshold: u64,
    /// Smallest count that triggers rule evaluation: `min_threshold`, or 0 if any rule has a baseline.
    notify_threshold: u64,
    /// Whether any rule is deferred: evaluated when the watermark has passed a pane.
    has_deferred: bool,
    /// Whether any rule has a baseline; such a rule evaluates every event.
    has_baseline: bool,
}

/// A rule of the plan and its place in a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlacedRule<'p> {
    /// Index of the rule in the plan.
    pub(crate) number: usize,
    pub(crate) plan: &'p RulePlan,
    /// Index of the counted value source among the stream's; `None` to count events.
    pub(crate) counted: Option<usize>,
    /// Index of the value source that names the peer group, if the rule has one.
    pub(crate) peers: Option<usize>,
}

/// One shard's part of a keyed stream.
#[derive(Debug)]
pub(crate) struct KeyedStream {
    grouping: Grouping,
    /// How far this stream lags behind the engine's watermark, in microseconds; 0 unless it counts findings of other
    /// rules.
    delay: Micros,
    /// Ids of recently counted finding openings with their times, for de-duplication after a restore.
    counted_openings: FxHashMap<Uuid, Micros>,
    novelty: Option<NoveltyFilter>,
    groups: Groups,
    pub(crate) windows: Vec<Window>,
    /// Indices of the windows that count distinct values.
    value_windows: Vec<usize>,
    /// Indices of the windows with a baseline rule.
    baseline_windows: Vec<usize>,
    /// Row per slot, with one state per window.
    states: ChunkedVec<State>,
    recent: LatenessBuffer,
    /// Lower bound of the stream's watermark. After a restore it is the watermark at which this part of the snapshot
    /// was saved, which can be ahead of the engine's, because parts are saved at different times. If `delay` is not 0,
    /// it is also moved up to the stream's watermark at the end of each batch.
    min_watermark: Micros,
}

impl KeyedStream {
    /// Creates an empty stream that counts by the given rules.
    pub(crate) fn new<'p>(
        spec: &StreamSpec,
        days: Days,
        rules: impl Iterator<Item = PlacedRule<'p>>,
    ) -> Self {
        let mut windows = Vec::new();
        rules.for_each(|rule| add(&mut windows, rule, days));
        Self {
            grouping: spec.grouping.clone(),
            delay: spec.delay,
            counted_openings: FxHashMap::default(),
            novelty: spec.novelty.as_ref().map(|(plan, field)| NoveltyFilter::new(plan, days, *field)),
            groups: Groups::default(),
            value_windows: (0..windows.len()).filter(|&index| windows[index].counts_values()).collect(),
            baseline_windows: (0..windows.len()).filter(|&index| windows[index].has_baseline).collect(),
            states: ChunkedVec::new(windows.len()),
            recent: LatenessBuffer::default(),
            min_watermark: Micros::MIN,
            windows,
        }
    }

    /// Creates a stream without rules, used to skip over saved state.
    pub(crate) fn empty() -> Self {
        Self::new(&StreamSpec::default(), Days { offset: 0 }, std::iter::empty())
    }

    pub(crate) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Returns, per window, the plan indices of its rules.
    pub(crate) fn rules(&self) -> impl Iterator<Item = Vec<usize>> {
        self.windows.iter().map(|window| window.detectors.iter().map(|detector| detector.rule).collect())
    }

    /// Whether the stream has a novelty filter, so that [`Self::retain_novel`] must be called.
    pub(crate) fn has_novelty_filter(&self) -> bool {
        self.novelty.is_some()
    }

    /// Drops the events that the rule does not count because they are not novel. Called for each chunk in stream
    /// order, before [`Self::count`].
    pub(crate) fn retain_novel(&mut self, batch: &mut KeyedBatch, fingerprinter: &Fingerprinter) {
        if let Some(novelty) = &mut self.novelty {
            novelty.retain_novel(batch, fingerprinter);
        }
    }

    /// Counts the events of one chunk until the watermark would reach `until`; the caller uses it to close baseline
    /// days in the middle of a chunk, and then calls again. `clock` is the source stream's clock before the chunk.
    ///
    /// Events pass four stages in blocks of [`BLOCK`]: prefetch the group index, resolve groups and prefetch their
    /// states, prefetch pane logs and profiles, count. While one block is counted, the memory for the next three is
    /// being loaded.
    pub(crate) fn count(
        &mut self,
        batch: &mut KeyedBatch,
        clock: StreamClock,
        until: Option<Micros>,
        names: &mut GroupNames<'_>,
    ) {
        let KeyedBatch { events, done, values } = batch;
        let events = &mut events[*done..];
        let ahead = until.map(|until| events.partition_point(|keyed| keyed.watermark_with(clock) < until));
        let now = ahead.unwrap_or(events.len());
        let events = &mut events[..now];
        *done += now;
        let clock = clock.behind_by(self.delay).not_before(self.min_watermark);
        let blocks = events.len().div_ceil(BLOCK);
        for index in 0..blocks + 3 {
            if let Some(block) = block(events, Some(index)) {
                for keyed in &*block {
                    self.groups.prefetch(keyed.fingerprint);
                }
            }
            if let Some(block) = block(events, index.checked_sub(1)) {
                self.resolve_groups(block, values, names);
            }
            if let Some(block) = block(events, index.checked_sub(2)) {
                self.prefetch_states(block);
            }
            if let Some(block) = block(events, index.checked_sub(3)) {
                for keyed in &*block {
                    self.count_event(keyed, clock.watermark_after(keyed.newest), values, names);
                }
            }
        }
        if batch.done == batch.events.len() {
            batch.clear();
        }
    }

    /// Resolves the slot of each event's group, creating new groups, and prefetches the states.
    fn resolve_groups(&mut self, block: &mut [KeyedEvent], values: &EventValues, names: &mut GroupNames<'_>) {
        for keyed in block {
            match self.groups.find(keyed.fingerprint) {
                Some(slot) => {
                    keyed.slot = slot;
                    self.states.get(slot).into_iter().flatten().for_each(prefetch);
                }
                None => keyed.slot = self.slot(keyed, names),
            }
            for window in self.value_windows.iter().map(|&index| &self.windows[index]) {
                window.counts.prefetch(keyed.slot, window.values(values, keyed));
            }
        }
    }

    /// Prefetches the memory that states point to: pane logs and baseline profiles.
    fn prefetch_states(&self, block: &[KeyedEvent]) {
        for keyed in block {
            let states = self.states.get(keyed.slot).unwrap_or_default();
            for (window, state) in self.windows.iter().zip(states) {
                window.counts.prefetch_panes(state);
            }
            for window in self.baseline_windows.iter().map(|&index| &self.windows[index]) {
                let profiles = window.detectors.iter().filter_map(Detector::profiles);
                profiles.for_each(|profiles| profiles.prefetch(keyed.slot));
            }
        }
    }

    /// Counts an event in every window of its group.
    fn count_event(
        &mut self,
        keyed: &KeyedEvent,
        watermark: Micros,
        values: &EventValues,
        names: &mut GroupNames<'_>,
    ) {
        let KeyedEvent { slot, time, .. } = *keyed;
        if time < watermark && self.windows.iter().all(|window| window.counts.is_beyond(time, watermark)) {
            return;
        }
        let Some(states) = self.states.get_mut(slot) else { return };
        let Some(first) = states.first_mut() else { return };
        let newest = time >= first.newest;
        first.newest = time.max(first.newest);
        let number = self.recent.push(slot, time, first.last_arrival);
        first.last_arrival = number;
        let event = NewEvent { slot, time, watermark, number };
        // Most events change nothing that a rule evaluates, so this list is usually empty.
        let mut updates: SmallVec<[(usize, CountUpdate); 8]> = SmallVec::new();
        for (index, (window, state)) in self.windows.iter_mut().zip(states).enumerate() {
            if let Some(added) = window.count(state, event, (values, keyed)) {
                updates.push((index, added));
            }
        }
        if !updates.is_empty() {
            self.evaluate(keyed, event, newest, &updates, values, names);
        }
    }

    /// Evaluates the rules of the windows that an event changed.
    #[inline(never)]
    fn evaluate(
        &mut self,
        keyed: &KeyedEvent,
        NewEvent { slot, time, watermark, .. }: NewEvent,
        newest: bool,
        updates: &[(usize, CountUpdate)],
        values: &EventValues,
        names: &mut GroupNames<'_>,
    ) {
        for &(index, added) in updates {
            let Window { counts, aggregates, detectors, min_threshold, has_deferred, has_baseline, .. } =
                &mut self.windows[index];
            let view = WindowView::new(counts, aggregates.as_ref(), &self.states, &self.recent);
            let event = CountedEvent { slot, time, pane: added.pane, watermark, newest };
            let names = &mut || names.of(keyed, &self.grouping);
            if *has_deferred && added.new_pane {
                for detector in &mut *detectors {
                    detector.schedule_evaluation(view, slot, added.pane);
                }
            }
            if aggregates.is_some() {
                for detector in &mut *detectors {
                    detector.on_aggregate(view, event, added, names);
                }
                continue;
            }
            if *has_baseline {
                for detector in &mut *detectors {
                    let peers = detector.profiles().and_then(|profiles| profiles.peer_value_index);
                    let peer = peers.and_then(|field| values.of(keyed, field).first().copied());
                    detector.on_baseline_event(view, event, added, peer, names);
                }
            }
            if !added.in_order {
                for detector in detectors.iter_mut().filter(|detector| detector.profiles().is_none()) {
                    detector.out_of_order(view, event, names);
                }
            } else if added.total >= *min_threshold {
                for detector in detectors.iter_mut().filter(|detector| added.total >= detector.need) {
                    detector.on_threshold_met(view, event, names);
                }
            }
        }
    }

    /// Returns the slot of a group, creating and initialising it if it is new.
    #[cold]
    fn slot(&mut self, keyed: &KeyedEvent, names: &mut GroupNames<'_>) -> u32 {
        let (slot, is_new) = self.groups.find_or_add(keyed.fingerprint);
        if is_new {
            self.states.reach(slot);
            let states = self.states.get_mut(slot).unwrap_or_default();
            for (window, state) in self.windows.iter_mut().zip(&mut *states) {
                window.clear(slot, state);
            }
            if let Some(first) = states.first_mut() {
                (first.newest, first.last_arrival) = (Micros::MIN, self.recent.none());
            }
            for window in self.windows.iter_mut().filter(|window| window.has_deferred) {
                let names = names.of(keyed, &self.grouping);
                let (view, detectors) = window.decisions(&self.states, &self.recent);
                for detector in detectors {
                    detector.track_group(view, slot, &names);
                }
            }
        }
        slot
    }

    /// Advances the stream to the watermark at the end of a batch: evaluates deferred rules, closes findings, appends
    /// the changes of findings, trims the lateness buffer and expires idle groups.
    pub(crate) fn advance_watermark(&mut self, watermark: Micros, changes: &mut Vec<Change>) {
        let watermark = self.own_watermark(watermark);
        if self.delay > 0 {
            self.min_watermark = watermark;
            let longest = self.windows.iter().map(|window| window.counts.timespan()).max().unwrap_or(0);
            self.counted_openings.retain(|_, time| *time >= watermark.saturating_sub(longest));
        }
        if let Some(novelty) = &mut self.novelty {
            novelty.advance_watermark(watermark);
        }
        // A slot is freed only when every window has expired it, so the longest window determines the sweep rate.
        let mut share: f64 = 1.0;
        for window in &mut self.windows {
            let pane = window.counts.pane(watermark);
            let (view, detectors) = window.decisions(&self.states, &self.recent);
            for detector in &mut *detectors {
                detector.advance_watermark(view, pane, changes);
            }
            // If baseline days outlive the window, sweep slower, but several times per retention period.
            let paces = detectors.iter().filter_map(Detector::profiles).map(Profiles::pace);
            let sweep_rate = (SWEEPS_PER_RETENTION * paces.fold(1.0, f64::min)).min(1.0);
            share = share.min(sweep_rate * window.counts.advance_watermark(watermark));
        }
        let before = self.recent.first();
        self.recent.trim(watermark);
        for window in &mut self.windows {
            window.counts.trim(before, self.recent.first());
        }
        if share > 0.0 {
            let Self { windows, states, recent, .. } = self;
            self.groups.sweep(share, |slot, when| {
                if when == Swept::Soon {
                    states.get(slot).into_iter().flatten().for_each(prefetch);
                    return false;
                }
                // Call every window, without short-circuiting: a window that has expired the group clears its state
                // at once.
                let mut over = true;
                for window in &mut *windows {
                    over &= window.remove_if_expired(slot, states, recent);
                }
                if over {
                    let detectors = windows.iter_mut().flat_map(|window| &mut window.detectors);
                    detectors.for_each(|detector| detector.remove_group(slot));
                }
                over
            });
        }
    }

    /// Watermark of this stream when the engine's is at `watermark`.
    fn own_watermark(&self, watermark: Micros) -> Micros {
        let own = if watermark == Micros::MAX { watermark } else { watermark.saturating_sub(self.delay) };
        own.max(self.min_watermark)
    }

    /// Counts those finding openings that were routed here and have not been counted before.
    pub(crate) fn count_openings(
        &mut self,
        batch: &mut KeyedBatch,
        openings: &[FinalOpening],
        spec: &StreamSpec,
    ) {
        let counted_openings = &mut self.counted_openings;
        batch.retain_openings(|index| {
            let opening = &openings[index];
            counted_openings.insert(opening.id, opening.time).is_none()
        });
        let clock = StreamClock::fixed_at(self.min_watermark.saturating_add(self.delay));
        self.count(batch, clock, None, &mut GroupNames::Openings { openings, spec });
    }

    /// Makes the detectors of these rules collect their finding openings for other rules.
    pub(crate) fn publish_openings(&mut self, rules: &[usize]) {
        let detectors = self.windows.iter_mut().flat_map(|window| &mut window.detectors);
        detectors.filter(|detector| rules.contains(&detector.rule)).for_each(Detector::publish_openings);
    }

    /// Takes the openings that became final since the last call.
    pub(crate) fn take_final_openings(&mut self) -> impl Iterator<Item = FinalOpening> {
        let detectors = self.windows.iter_mut().flat_map(|window| &mut window.detectors);
        detectors.flat_map(Detector::take_final_openings)
    }

    /// Appends the findings whose values changed since they were last reported.
    pub(crate) fn updates(&mut self, changes: &mut Vec<Change>) {
        for window in &mut self.windows {
            let (view, detectors) = window.decisions(&self.states, &self.recent);
            for detector in detectors {
                detector.updates(view, changes);
            }
        }
    }

    /// Returns the status of a group for a rule, in the window that ends with the pane of `time`.
    pub(crate) fn group_status(
        &mut self,
        rule: usize,
        fingerprint: Fingerprint,
        time: Micros,
    ) -> Option<GroupStatus> {
        let slot = self.groups.find(fingerprint)?;
        for window in &mut self.windows {
            let pane = window.counts.pane(time);
            let (view, detectors) = window.decisions(&self.states, &self.recent);
            if let Some(detector) = detectors.iter_mut().find(|detector| detector.rule == rule) {
                let level = view.levels(slot, pane, pane).first().map_or(0, |&(_, _, level)| level);
                return Some(detector.group_status(slot, level, time));
            }
        }
        None
    }

    /// Returns each detector with the largest count of any group within one timespan before `newest`.
    pub(crate) fn detectors(&self, newest: Option<Micros>) -> impl Iterator<Item = (&Detector, u64)> {
        self.windows.iter().flat_map(move |Window { counts, aggregates, detectors, .. }| {
            let largest = newest.map_or(0, |newest| match aggregates {
                Some(aggregates) => aggregates.largest(counts.pane(newest)),
                None => counts.largest(newest),
            });
            detectors.iter().map(move |detector| (detector, largest))
        })
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let of_window = |window: &Window| {
            window.counts.heap_bytes() + window.aggregates.as_ref().map_or(0, Aggregates::heap_bytes)
        };
        let windows: usize = self.windows.iter().map(of_window).sum();
        let detectors = self.windows.iter().flat_map(|window| &window.detectors);
        let windows = windows + detectors.map(Detector::heap_bytes).sum::<usize>();
        let novelty = self.novelty.as_ref().map_or(0, NoveltyFilter::heap_bytes);
        self.groups.heap_bytes() + self.states.heap_bytes() + self.recent.heap_bytes() + windows + novelty
    }
}

/// Adds a rule to a window with the same counts, or to a new window.
fn add(windows: &mut Vec<Window>, rule: PlacedRule<'_>, days: Days) {
    let PlacedRule { number, plan, counted, peers } = rule;
    let span = (plan.timespan_ms / plan.resolution_ms) as u32;
    let resolution = plan.resolution_ms as Micros * 1000;
    let profiles = plan.baseline.as_ref().map(|baseline| Profiles::new(baseline, plan, days, peers));
    let has_baseline = profiles.is_some();
    let detector = Detector::new(plan, number, profiles);
    let notify_threshold = if has_baseline { 0 } else { detector.need };
    let same = |window: &&mut Window| {
        (window.counts.span, window.counts.resolution, window.counted) == (span, resolution, counted)
            && window.aggregates.as_ref().map(Aggregates::measure) == plan.measure.as_ref()
    };
    if let Some(window) = windows.iter_mut().find(same) {
        window.min_threshold = window.min_threshold.min(detector.need);
        window.has_deferred |= detector.is_deferred();
        window.has_baseline |= has_baseline;
        window.notify_threshold = window.notify_threshold.min(notify_threshold);
        window.detectors.push(detector);
    } else {
        windows.push(Window {
            counts: Counts::new(span, resolution, counted.is_some() && plan.measure.is_none(), windows.len()),
            aggregates: plan.measure.as_ref().map(|measure| Aggregates::new(measure, span)),
            counted,
            min_threshold: detector.need,
            notify_threshold,
            has_deferred: detector.is_deferred(),
            has_baseline,
            detectors: vec![detector],
        });
    }
}

/// Returns block number `index`, if there is one.
#[inline]
fn block(events: &mut [KeyedEvent], index: Option<usize>) -> Option<&mut [KeyedEvent]> {
    let from = index? * BLOCK;
    let to = events.len().min(from + BLOCK);
    (from < to).then(|| &mut events[from..to])
}

impl Window {
    /// Whether the window counts distinct values, rather than events or a measure.
    fn counts_values(&self) -> bool {
        self.counted.is_some() && self.aggregates.is_none()
    }

    /// The values of an event that this window counts.
    #[inline]
    fn values<'v>(&self, values: &'v EventValues, keyed: &'v KeyedEvent) -> &'v [Fingerprint] {
        self.counted.map_or(&[], |field| values.of(keyed, field))
    }

    /// Counts an event in its group's state. Returns the result if a rule must be evaluated.
    #[inline]
    fn count(
        &mut self,
        state: &mut State,
        event: NewEvent,
        (values, keyed): (&EventValues, &KeyedEvent),
    ) -> Option<CountUpdate> {
        let Self {
            counts,
            aggregates,
            detectors,
            counted,
            min_threshold,
            notify_threshold,
            has_deferred,
            ..
        } = self;
        let on_decrease = |last, before, after, events| {
            for detector in &mut *detectors {
                detector.on_decrease(event.slot, last, before, after, events);
            }
        };
        let added = match *counted {
            None => counts.add(state, event, *min_threshold, on_decrease),
            Some(field) if aggregates.is_none() => {
                counts.add_values(state, event, values.of(keyed, field), *min_threshold, on_decrease)
            }
            Some(field) => return self.measure(state, event, values.of(keyed, field)),
        };
        added.filter(|added| {
            added.total >= *notify_threshold || !added.in_order || *has_deferred && added.new_pane
        })
    }

    /// Adds an event to the group's aggregate. Returns the result if a rule must be evaluated.
    fn measure(&mut self, state: &mut State, event: NewEvent, data: &[u64]) -> Option<CountUpdate> {
        let added = self.counts.add(state, event, u64::MAX, |_, _, _, _| ())?;
        let (span, watermark_pane) = (self.counts.span, self.counts.watermark_pane());
        let aggregates = self.aggregates.as_mut()?;
        aggregates.add(
            event.slot,
            (added.pane, event.time),
            data,
            (watermark_pane.saturating_sub(span + 1), watermark_pane),
        );
        let must_evaluate = !added.in_order
            || self.has_deferred && added.new_pane
            || aggregates.may_have_come_to(event.slot, self.min_threshold);
        must_evaluate.then_some(added)
    }

    /// Splits the window into a view of its counts and the detectors that evaluate them.
    fn decisions<'w>(
        &'w mut self,
        states: &'w ChunkedVec<State>,
        recent: &'w LatenessBuffer,
    ) -> (WindowView<'w>, &'w mut [Detector]) {
        let Self { counts, aggregates, detectors, .. } = self;
        (WindowView::new(counts, aggregates.as_ref(), states, recent), detectors)
    }

    fn view<'w>(&'w self, states: &'w ChunkedVec<State>, recent: &'w LatenessBuffer) -> WindowView<'w> {
        WindowView::new(&self.counts, self.aggregates.as_ref(), states, recent)
    }

    /// Clears the window's state of a group.
    fn clear(&mut self, slot: u32, state: &mut State) {
        self.counts.clear(state);
        if let Some(aggregates) = &mut self.aggregates {
            aggregates.clear(slot);
        }
    }

    /// Clears the group's state if no open window covers it and no detector needs it. Returns whether it was cleared.
    fn remove_if_expired(
        &mut self,
        slot: u32,
        states: &mut ChunkedVec<State>,
        recent: &LatenessBuffer,
    ) -> bool {
        let over = self.view(states, recent).is_over(slot)
            && !self.detectors.iter().any(|detector| detector.keeps(slot));
        if over && let Some(state) = states.get_mut(slot).and_then(|states| states.get_mut(self.counts.place))
        {
            self.clear(slot, state);
        }
        over
    }
}
