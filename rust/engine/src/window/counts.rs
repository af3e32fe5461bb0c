//! The counts of one sliding window in every group: how many, exactly, at every pane that can still change.
//!
//! Two ways in. *In order* (almost always): the event is in the group's newest pane or a later one, everything is O(1).
//! *Out of order*: the event goes into its own pane, and whoever needs them reads the counts of the panes it touches
//! again ([`super::reading`]), from the pane log and the group's recent arrivals.

use super::PaneIndex;
use super::pairs::PairTable;
use super::panes::{PaneLog, Part, Shape};
use super::peaks::{Peaks, eighth};
use super::recent::{ArrivalNumber, Values};
use crate::codec::{Damaged, Reader, Writer};
use crate::key::Fingerprint;
use crate::shedding::Ages;
use crate::time::Micros;

/// What one window remembers of one group: a cache line, and a heap block if the window has more than four panes. A
/// group's states are a row, one for each window of its stream; the first of them keeps what all have in common.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct State {
    pub(super) log: PaneLog,
    /// Matching events so far; wraps, only differences are used.
    pub(super) events: u32,
    /// In common: the end of the chain of recent arrivals.
    pub(crate) last_arrival: ArrivalNumber,
    /// In common: the largest event time.
    pub(crate) newest: Micros,
}

impl State {
    /// Whether nothing of the group is in the window.
    pub(crate) fn is_empty(&self) -> bool {
        self.log.head().is_none()
    }

    /// Bytes beside the state itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.log.heap_bytes()
    }

    pub(crate) fn save(&self, to: &mut Writer) {
        to.u32(self.events);
        self.log.save(to);
    }
}

impl Default for State {
    fn default() -> Self {
        Self { log: PaneLog::default(), events: 0, last_arrival: 0, newest: Micros::MIN }
    }
}

/// An event on its way into the windows of its group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arriving {
    pub(crate) slot: u32,
    pub(crate) time: Micros,
    /// The watermark in force.
    pub(crate) watermark: Micros,
    pub(crate) number: ArrivalNumber,
}

/// What counting an event came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Added {
    pub(crate) pane: PaneIndex,
    /// The count in the head's window.
    pub(crate) total: u64,
    /// Whether nothing before the event's pane has changed, and nothing behind the watermark.
    pub(crate) in_order: bool,
    /// Whether the head was in another pane before.
    pub(crate) new_pane: bool,
}

/// The pane of the event at hand, kept because the next one is most often in the same: a division saved.
#[derive(Debug, Default)]
struct Here {
    from: Micros,
    pane: PaneIndex,
}

#[derive(Debug)]
pub(crate) struct Counts {
    /// Panes a window has.
    pub(crate) span: u32,
    pub(crate) resolution: Micros,
    /// Its state's place in a group's row.
    pub(crate) place: usize,
    /// Whether distinct values are counted rather than events.
    pub(super) values: bool,
    /// The most values any event had, or 1.
    pub(super) most_values: u64,
    pub(super) pairs: PairTable,
    /// The values of recent arrivals, where values are counted.
    pub(super) recent: Values,
    /// The first arrival it counted, where there are earlier ones still.
    began_with: Option<ArrivalNumber>,
    peaks: Peaks,
    here: Here,
    /// Heap bytes of all pane logs.
    log_bytes: usize,
    /// The watermark pane all bookkeeping has been done up to.
    settled: PaneIndex,
    /// The last pane that no window to be judged reaches.
    forget: PaneIndex,
}

impl Counts {
    pub(crate) fn new(span: u32, resolution: Micros, values: bool, place: usize) -> Self {
        Self {
            span,
            resolution,
            place,
            values,
            most_values: 1,
            pairs: PairTable::default(),
            recent: Values::default(),
            began_with: None,
            peaks: Peaks::default(),
            here: Here::default(),
            log_bytes: 0,
            settled: 0,
            forget: 0,
        }
    }

    // ---- time ----

    #[inline]
    pub(crate) fn pane(&self, time: Micros) -> PaneIndex {
        if self.is_here(time) {
            return self.here.pane;
        }
        // Accepted times lie between 1970 and 2100 and a pane is at least a second: this fits.
        time.div_euclid(self.resolution).clamp(0, Micros::from(PaneIndex::MAX)) as PaneIndex
    }

    #[inline]
    fn is_here(&self, time: Micros) -> bool {
        // Below `from`, the difference comes round to more than any resolution.
        (time.wrapping_sub(self.here.from).cast_unsigned()) < self.resolution.cast_unsigned()
    }

    /// The pane of an event that is about to be counted.
    #[inline]
    fn move_to(&mut self, time: Micros) -> PaneIndex {
        if !self.is_here(time) {
            let pane = self.pane(time);
            self.here = Here { from: self.start_of(pane), pane };
            self.peaks.turn_to(eighth(pane, self.span));
        }
        self.here.pane
    }

    /// A window's length.
    pub(crate) fn timespan(&self) -> Micros {
        Micros::from(self.span) * self.resolution
    }

    pub(crate) fn start_of(&self, pane: PaneIndex) -> Micros {
        Micros::from(pane) * self.resolution
    }

    /// The last time that is in the same pane.
    pub(crate) fn last_of_pane(&self, time: Micros) -> Micros {
        self.start_of(self.pane(time) + 1) - 1
    }

    pub(crate) fn settled(&self) -> PaneIndex {
        self.settled
    }

    // ---- groups ----

    /// Forgets what this window has of a group.
    pub(crate) fn clear(&mut self, state: &mut State) {
        self.log_bytes -= state.log.heap_bytes();
        (state.log, state.events) = (PaneLog::default(), 0);
    }

    /// Asks for what counting will read of a state's panes; the state itself should have come by now.
    #[inline]
    pub(crate) fn prefetch_panes(&self, state: &State) {
        state.log.prefetch_past(self.span, self.here.pane);
    }

    /// Asks for what counting the values in a group will read.
    #[inline]
    pub(crate) fn prefetch(&self, slot: u32, values: &[Fingerprint]) {
        for &value in values {
            self.pairs.prefetch(value, slot);
        }
    }

    // ---- counting ----

    /// Whether the pane of `time` has left every window that is not final at `watermark`.
    #[inline]
    pub(crate) fn is_beyond(&self, time: Micros, watermark: Micros) -> bool {
        time < watermark && self.pane(time).saturating_add(self.span) <= self.pane(watermark)
    }

    /// Counts an event in its group's state, unless it lies beyond. Where the count falls from `floor` or above on the
    /// way, `fell` hears of the last pane that had the count before, of both counts and of the events so far.
    #[inline]
    pub(crate) fn add(
        &mut self,
        state: &mut State,
        event: Arriving,
        floor: u64,
        fell: impl FnMut(PaneIndex, u64, u64, u32),
    ) -> Option<Added> {
        self.add_as::<false>(state, event, &[], floor, fell)
    }

    /// [`Self::add`], where values are counted.
    #[inline]
    pub(crate) fn add_values(
        &mut self,
        state: &mut State,
        event: Arriving,
        values: &[Fingerprint],
        floor: u64,
        fell: impl FnMut(PaneIndex, u64, u64, u32),
    ) -> Option<Added> {
        self.add_as::<true>(state, event, values, floor, fell)
    }

    #[inline(always)]
    #[allow(clippy::inline_always)] // the two have next to nothing of each other's
    fn add_as<const VALUES: bool>(
        &mut self,
        state: &mut State,
        event: Arriving,
        values: &[Fingerprint],
        floor: u64,
        mut fell: impl FnMut(PaneIndex, u64, u64, u32),
    ) -> Option<Added> {
        let Arriving { slot, time, watermark, number } = event;
        let pane = self.move_to(time);
        if self.is_beyond(time, watermark) {
            return None;
        }
        let span = self.span;
        let head = state.log.head();
        if let Some(head) = head.filter(|&head| pane < head) {
            let total = self.add_below(state, (slot, number), (pane, head), values);
            return Some(Added { pane, total, in_order: false, new_pane: true });
        }
        let new_pane = head != Some(pane);
        let State { log, events, .. } = state;
        let shape = Shape { span, values: VALUES, forget: self.forget };
        if new_pane {
            log.advance(pane, shape, &mut self.log_bytes, |left, before, after| {
                if u64::from(before) >= floor {
                    fell(left + span - 1, u64::from(before), u64::from(after), *events);
                }
            });
        }
        *events = events.wrapping_add(1);
        if VALUES {
            let (moved, new) = self.see(log, (slot, number), (pane, pane), values);
            log.total += new;
            log.enter(moved, shape.forget, &mut self.log_bytes);
        } else {
            log.total += 1;
            log.enter(0, shape.forget, &mut self.log_bytes);
        }
        let total = u64::from(log.total);
        self.peaks.see(total);
        Some(Added { pane, total, in_order: time >= watermark, new_pane })
    }

    /// Counts an event in a pane below its group's head; returns the count in the head's window.
    #[cold]
    fn add_below(
        &mut self,
        state: &mut State,
        (slot, number): (u32, ArrivalNumber),
        (pane, head): (PaneIndex, PaneIndex),
        values: &[Fingerprint],
    ) -> u64 {
        let span = self.span;
        let State { log, events, .. } = state;
        *events = events.wrapping_add(1);
        let inside = log.add_below(pane, span, Part::Event, &mut self.log_bytes);
        let (moved, new) =
            if self.values { self.see(log, (slot, number), (pane, head), values) } else { (0, 1) };
        for _ in 0..moved {
            log.add_below(pane, span, Part::Value, &mut self.log_bytes);
        }
        if inside {
            log.total += new;
        }
        self.peaks.see_in(eighth(head, self.span), u64::from(log.total));
        u64::from(log.total)
    }

    /// Notes an event's values in `pane`. Returns how many of them are no longer in an earlier pane, and how many the
    /// count of a window that has `pane` and ends with `head` grows by: those it had not counted.
    #[inline(always)]
    #[allow(clippy::inline_always)] // once an event; the other caller is cold
    fn see(
        &mut self,
        log: &mut PaneLog,
        (slot, number): (u32, ArrivalNumber),
        (pane, head): (PaneIndex, PaneIndex),
        values: &[Fingerprint],
    ) -> (u32, u32) {
        self.most_values = self.most_values.max(values.len() as u64);
        let (mut moved, mut new) = (0, 0);
        for &value in values {
            let was_last = self.pairs.see(value, slot, pane).unwrap_or(0);
            if was_last < pane {
                if was_last != 0 {
                    log.take_value(was_last);
                }
                moved += 1;
                new += u32::from(was_last == 0 || was_last + self.span <= head);
            }
            self.recent.push(number, value, was_last);
        }
        (moved, new)
    }

    // ---- bookkeeping ----

    /// The watermark has come to `watermark`. Returns how much of a timespan it has moved on, 0 to 1.
    pub(crate) fn settle(&mut self, watermark: Micros) -> f64 {
        let pane = self.pane(watermark);
        if pane <= self.settled || watermark == Micros::MAX {
            return 0.0; // Nothing to sweep, or nothing worth it: this is the end.
        }
        let share = (f64::from(pane - self.settled) / f64::from(self.span)).min(1.0);
        self.settle_at(pane);
        // As with panes: what left its last window at `settled` is still needed to judge that pane.
        self.pairs.sweep(share, pane.saturating_sub(self.span));
        share
    }

    fn settle_at(&mut self, pane: PaneIndex) {
        self.settled = pane;
        // A pane that left its last window at `settled` is still needed: that pane is judged only afterwards.
        self.forget = pane.saturating_sub(self.span + 1);
    }

    /// The largest count any group reached within the last timespan before `newest`.
    pub(crate) fn largest(&self, newest: Micros) -> u64 {
        self.peaks.largest(eighth(self.pane(newest), self.span))
    }

    /// Lets go of the values of arrivals before `first`, which has come on from `before`.
    pub(crate) fn trim(&mut self, before: ArrivalNumber, first: ArrivalNumber) {
        self.recent.trim(before, first);
        let gone = first.wrapping_sub(before);
        self.began_with = self.began_with.filter(|began| began.wrapping_sub(before) > gone);
    }

    /// Arrivals before this one came before the window was there.
    pub(crate) fn begin_with(&mut self, arrival: ArrivalNumber) {
        self.began_with = Some(arrival);
    }

    /// Whether an arrival was counted here; `first` is the oldest there is.
    pub(super) fn has_counted(&self, arrival: ArrivalNumber, first: ArrivalNumber) -> bool {
        self.began_with.is_none_or(|began| arrival.wrapping_sub(first) >= began.wrapping_sub(first))
    }

    // ---- shortage of memory ----

    /// Adds up by age what [`Self::forget_before`] would free.
    pub(crate) fn ages(&self, ages: &mut Ages) {
        let each = self.pairs.heap_bytes() / self.pairs.len().max(1);
        self.pairs.last_panes().for_each(|last| ages.add(self.start_of(last + 1) - 1, each));
    }

    /// Forgets which values were last seen in panes before that of `time`, not how many they were: one that is seen again
    /// counts again, until the pane leaves the window that it counted in before. Returns how many values.
    pub(crate) fn forget_before(&mut self, time: Micros) -> usize {
        self.pairs.forget_before(self.pane(time))
    }

    // ---- saving ----

    pub(crate) fn save(&self, to: &mut Writer) {
        to.flag(self.values);
        to.u64(self.most_values);
        to.u32(self.settled);
        to.flag(self.began_with.is_some());
        to.u32(self.began_with.unwrap_or(0));
        self.pairs.save(to);
        self.recent.save(to);
        self.peaks.save(to);
    }

    /// What was saved of a window like this one, or of one that no rule needs any more.
    pub(crate) fn load(&self, from: &mut Reader<'_>) -> Result<Self, Damaged> {
        let mut counts = Self::new(self.span, self.resolution, from.flag()?, self.place);
        counts.most_values = from.u64()?;
        counts.settle_at(from.u32()?);
        let (has_earlier, began_with) = (from.flag()?, from.u32()?);
        counts.began_with = has_earlier.then_some(began_with);
        counts.pairs = PairTable::load(from)?;
        counts.recent = Values::load(from)?;
        counts.peaks = Peaks::load(from)?;
        Ok(counts)
    }

    /// A group's state in this window. Add its heap with [`Self::hold`] if it is kept.
    pub(crate) fn load_state(&self, from: &mut Reader<'_>) -> Result<State, Damaged> {
        let events = from.u32()?;
        Ok(State { log: PaneLog::load(from, self.values)?, events, ..State::default() })
    }

    /// Notes a state that was loaded.
    pub(crate) fn hold(&mut self, state: &State) {
        self.log_bytes += state.log.heap_bytes();
    }

    /// Bytes beside the states.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.log_bytes + self.pairs.heap_bytes() + self.recent.heap_bytes()
    }
}
