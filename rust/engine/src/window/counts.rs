//! Exact counts of one sliding window in every group, at every pane that can still change.
//!
//! An event in the group's newest pane or a later one costs O(1); it is *in order* unless it is late. An event in an
//! earlier pane is added to that pane, and the rules recompute the counts of the panes it touches through a
//! [`super::view`], from the pane log and the lateness buffer.

use super::lateness_buffer::{ArrivalNumber, ArrivalValues};
use super::pairs::PairTable;
use super::panes::{PaneIndex, PaneLog, PanePart, Shape};
use super::peaks::{Peaks, eighth};
use crate::foundation::codec::{Damaged, StateReader, StateWriter};
use crate::foundation::eviction::AgeHistogram;
use crate::foundation::fingerprint::Fingerprint;
use crate::foundation::time::Micros;

/// State of one window for one group: one cache line, plus a heap block if the window has more than four panes with
/// events. The states of a group form a row; the first also holds the fields common to all.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct State {
    pub(super) log: PaneLog,
    /// Matching events so far. Wraps; only differences are used.
    pub(super) events: u32,
    /// Common: newest entry of the group in the lateness buffer.
    pub(crate) last_arrival: ArrivalNumber,
    /// Common: largest event time.
    pub(crate) newest: Micros,
}

impl State {
    /// Whether the group has no panes in this window.
    pub(crate) fn is_empty(&self) -> bool {
        self.log.head().is_none()
    }

    /// Memory outside the state itself, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.log.heap_bytes()
    }

    pub(crate) fn save(&self, to: &mut StateWriter) {
        to.u32(self.events);
        self.log.save(to);
    }
}

impl Default for State {
    fn default() -> Self {
        Self { log: PaneLog::default(), events: 0, last_arrival: 0, newest: Micros::MIN }
    }
}

/// An event to add to the windows of its group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewEvent {
    pub(crate) slot: u32,
    pub(crate) time: Micros,
    /// The watermark when the event arrived.
    pub(crate) watermark: Micros,
    pub(crate) number: ArrivalNumber,
}

/// Result of adding an event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CountUpdate {
    pub(crate) pane: PaneIndex,
    /// Count in the window of the group's newest pane.
    pub(crate) total: u64,
    /// Whether the event is in the group's newest pane and not late.
    pub(crate) in_order: bool,
    /// Whether the event started a new newest pane; also true for every event in an earlier pane.
    pub(crate) new_pane: bool,
}

/// Cached pane of the last event; the next event is usually in the same pane, which saves a division.
#[derive(Debug, Default)]
struct CurrentPane {
    from: Micros,
    pane: PaneIndex,
}

#[derive(Debug)]
pub(crate) struct Counts {
    /// Window length in panes.
    pub(crate) span: u32,
    pub(crate) resolution: Micros,
    /// Index of this window's state in a group's row of states.
    pub(crate) place: usize,
    /// Whether distinct values are counted rather than events.
    pub(super) values: bool,
    /// Largest number of values in one event so far, at least 1.
    pub(super) most_values: u64,
    pub(super) pairs: PairTable,
    /// Values of the entries in the lateness buffer, if values are counted.
    pub(super) recent: ArrivalValues,
    /// First entry of the lateness buffer that this window counted, if older entries exist.
    first_counted: Option<ArrivalNumber>,
    peaks: Peaks,
    here: CurrentPane,
    /// Memory of all pane logs, in bytes.
    log_bytes: usize,
    /// Pane of the watermark at the end of the last batch.
    watermark_pane: PaneIndex,
    /// Last expired pane: no window that is still to be evaluated covers it.
    expired_through: PaneIndex,
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
            recent: ArrivalValues::default(),
            first_counted: None,
            peaks: Peaks::default(),
            here: CurrentPane::default(),
            log_bytes: 0,
            watermark_pane: 0,
            expired_through: 0,
        }
    }

    #[inline]
    pub(crate) fn pane(&self, time: Micros) -> PaneIndex {
        if self.is_here(time) {
            return self.here.pane;
        }
        // Accepted times lie between 1970 and 2100 and a pane is at least one second, so the index fits.
        time.div_euclid(self.resolution).clamp(0, Micros::from(PaneIndex::MAX)) as PaneIndex
    }

    #[inline]
    fn is_here(&self, time: Micros) -> bool {
        // For times before `from` the difference wraps to more than any resolution.
        (time.wrapping_sub(self.here.from).cast_unsigned()) < self.resolution.cast_unsigned()
    }

    /// Moves the cached pane to the event that is about to be counted.
    #[inline]
    fn move_to(&mut self, time: Micros) -> PaneIndex {
        if !self.is_here(time) {
            let pane = self.pane(time);
            self.here = CurrentPane { from: self.start_of(pane), pane };
            self.peaks.move_to_slice(eighth(pane, self.span));
        }
        self.here.pane
    }

    /// Window length, in microseconds.
    pub(crate) fn timespan(&self) -> Micros {
        Micros::from(self.span) * self.resolution
    }

    pub(crate) fn start_of(&self, pane: PaneIndex) -> Micros {
        Micros::from(pane) * self.resolution
    }

    /// Last time in the pane of `time`.
    pub(crate) fn last_of_pane(&self, time: Micros) -> Micros {
        self.start_of(self.pane(time) + 1) - 1
    }

    pub(crate) fn watermark_pane(&self) -> PaneIndex {
        self.watermark_pane
    }

    /// Clears this window's state of a group.
    pub(crate) fn clear(&mut self, state: &mut State) {
        self.log_bytes -= state.log.heap_bytes();
        (state.log, state.events) = (PaneLog::default(), 0);
    }

    /// Prefetches the panes that counting will read; the state itself must have been prefetched before.
    #[inline]
    pub(crate) fn prefetch_panes(&self, state: &State) {
        state.log.prefetch_past(self.span, self.here.pane);
    }

    /// Prefetches the pairs that counting these values will read.
    #[inline]
    pub(crate) fn prefetch(&self, slot: u32, values: &[Fingerprint]) {
        for &value in values {
            self.pairs.prefetch(value, slot);
        }
    }

    /// Whether the pane of `time` is outside every window that is open at `watermark`.
    #[inline]
    pub(crate) fn is_beyond(&self, time: Micros, watermark: Micros) -> bool {
        time < watermark && self.pane(time).saturating_add(self.span) <= self.pane(watermark)
    }

    /// Counts an event, or returns `None` if it is late and no open window covers it. An event in a new pane moves the
    /// window of the newest pane forward, so old panes leave it. For each of these that lowers a count of at least
    /// `floor`, calls `on_decrease` with the last pane that had the old count, the counts before and after, and the
    /// group's running counter of events.
    #[inline]
    pub(crate) fn add(
        &mut self,
        state: &mut State,
        event: NewEvent,
        floor: u64,
        on_decrease: impl FnMut(PaneIndex, u64, u64, u32),
    ) -> Option<CountUpdate> {
        self.add_as::<false>(state, event, &[], floor, on_decrease)
    }

    /// Like [`Self::add`], for windows that count values.
    #[inline]
    pub(crate) fn add_values(
        &mut self,
        state: &mut State,
        event: NewEvent,
        values: &[Fingerprint],
        floor: u64,
        on_decrease: impl FnMut(PaneIndex, u64, u64, u32),
    ) -> Option<CountUpdate> {
        self.add_as::<true>(state, event, values, floor, on_decrease)
    }

    #[inline(always)]
    #[allow(clippy::inline_always)] // the two instances share almost no code
    fn add_as<const VALUES: bool>(
        &mut self,
        state: &mut State,
        event: NewEvent,
        values: &[Fingerprint],
        floor: u64,
        mut on_decrease: impl FnMut(PaneIndex, u64, u64, u32),
    ) -> Option<CountUpdate> {
        let NewEvent { slot, time, watermark, number } = event;
        let pane = self.move_to(time);
        if self.is_beyond(time, watermark) {
            return None;
        }
        let span = self.span;
        let head = state.log.head();
        if let Some(head) = head.filter(|&head| pane < head) {
            let total = self.add_below(state, (slot, number), (pane, head), values);
            return Some(CountUpdate { pane, total, in_order: false, new_pane: true });
        }
        let new_pane = head != Some(pane);
        let State { log, events, .. } = state;
        let shape = Shape { span, values: VALUES, expired_through: self.expired_through };
        if new_pane {
            log.advance(pane, shape, &mut self.log_bytes, |left, before, after| {
                if u64::from(before) >= floor {
                    on_decrease(left + span - 1, u64::from(before), u64::from(after), *events);
                }
            });
        }
        *events = events.wrapping_add(1);
        if VALUES {
            let (moved, new) = self.record(log, (slot, number), (pane, pane), values);
            log.total += new;
            log.enter(moved, shape.expired_through, &mut self.log_bytes);
        } else {
            log.total += 1;
            log.enter(0, shape.expired_through, &mut self.log_bytes);
        }
        let total = u64::from(log.total);
        self.peaks.record(total);
        Some(CountUpdate { pane, total, in_order: time >= watermark, new_pane })
    }

    /// Counts an event in a pane before the group's newest. Returns the count in the newest pane's window.
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
        let inside = log.add_below(pane, span, PanePart::Event, &mut self.log_bytes);
        let (moved, new) =
            if self.values { self.record(log, (slot, number), (pane, head), values) } else { (0, 1) };
        for _ in 0..moved {
            log.add_below(pane, span, PanePart::Value, &mut self.log_bytes);
        }
        if inside {
            log.total += new;
        }
        self.peaks.record_in(eighth(head, self.span), u64::from(log.total));
        u64::from(log.total)
    }

    /// Records the values of an event in `pane`. Returns how many of them are new or moved to this pane from an earlier
    /// one, and by how much the count of pane `head` grows if its window contains `pane`. A value already seen in a
    /// later pane stays there; only the lateness buffer records the event.
    #[inline(always)]
    #[allow(clippy::inline_always)] // called once per event; the other caller is cold
    fn record(
        &mut self,
        log: &mut PaneLog,
        (slot, number): (u32, ArrivalNumber),
        (pane, head): (PaneIndex, PaneIndex),
        values: &[Fingerprint],
    ) -> (u32, u32) {
        self.most_values = self.most_values.max(values.len() as u64);
        let (mut moved, mut new) = (0, 0);
        for &value in values {
            let previous_pane = self.pairs.record(value, slot, pane).unwrap_or(0);
            if previous_pane < pane {
                if previous_pane != 0 {
                    log.take_value(previous_pane);
                }
                moved += 1;
                new += u32::from(previous_pane == 0 || previous_pane + self.span <= head);
            }
            self.recent.push(number, value, previous_pane);
        }
        (moved, new)
    }

    /// Advances to `watermark`. Returns the fraction of a timespan it moved, 0 to 1.
    pub(crate) fn advance_watermark(&mut self, watermark: Micros) -> f64 {
        let pane = self.pane(watermark);
        if pane <= self.watermark_pane || watermark == Micros::MAX {
            return 0.0; // nothing to sweep, or the end of the stream
        }
        let share = (f64::from(pane - self.watermark_pane) / f64::from(self.span)).min(1.0);
        self.set_watermark_pane(pane);
        // Values last seen at `pane - span` are kept: they leave the window at `pane`, which is not evaluated yet.
        self.pairs.sweep(share, pane.saturating_sub(self.span));
        share
    }

    fn set_watermark_pane(&mut self, pane: PaneIndex) {
        self.watermark_pane = pane;
        // The pane at `pane - span` is kept: it leaves the window at `pane`, which is not evaluated yet.
        self.expired_through = pane.saturating_sub(self.span + 1);
    }

    /// Largest count of any group within one timespan before `newest`.
    pub(crate) fn largest(&self, newest: Micros) -> u64 {
        self.peaks.largest(eighth(self.pane(newest), self.span))
    }

    /// Removes the values of lateness buffer entries before `first`; `before` was the first entry until now.
    pub(crate) fn trim(&mut self, before: ArrivalNumber, first: ArrivalNumber) {
        self.recent.trim(before, first);
        let gone = first.wrapping_sub(before);
        self.first_counted = self.first_counted.filter(|began| began.wrapping_sub(before) > gone);
    }

    /// Ignores lateness buffer entries before this one, because the window was added after them.
    pub(crate) fn count_from(&mut self, arrival: ArrivalNumber) {
        self.first_counted = Some(arrival);
    }

    /// Whether this window counted an entry; `first` is the oldest entry in the buffer.
    pub(super) fn has_counted(&self, arrival: ArrivalNumber, first: ArrivalNumber) -> bool {
        self.first_counted.is_none_or(|began| arrival.wrapping_sub(first) >= began.wrapping_sub(first))
    }

    /// Adds the memory that [`Self::evict_before`] could free to a histogram by age.
    pub(crate) fn add_ages(&self, ages: &mut AgeHistogram) {
        let each = self.pairs.heap_bytes() / self.pairs.len().max(1);
        self.pairs.last_panes().for_each(|last| ages.add(self.start_of(last + 1) - 1, each));
    }

    /// Evicts the values last seen in panes before that of `time`; returns how many. The counts keep them: an evicted
    /// value that is seen again counts twice until its old pane leaves the window.
    pub(crate) fn evict_before(&mut self, time: Micros) -> usize {
        self.pairs.evict_before(self.pane(time))
    }

    pub(crate) fn save(&self, to: &mut StateWriter) {
        to.flag(self.values);
        to.u64(self.most_values);
        to.u32(self.watermark_pane);
        to.flag(self.first_counted.is_some());
        to.u32(self.first_counted.unwrap_or(0));
        self.pairs.save(to);
        self.recent.save(to);
        self.peaks.save(to);
    }

    /// Loads the saved state of an equal window, or of a window to be skipped.
    pub(crate) fn load(&self, from: &mut StateReader<'_>) -> Result<Self, Damaged> {
        let mut counts = Self::new(self.span, self.resolution, from.flag()?, self.place);
        counts.most_values = from.u64()?;
        counts.set_watermark_pane(from.u32()?);
        let (has_earlier, first_counted) = (from.flag()?, from.u32()?);
        counts.first_counted = has_earlier.then_some(first_counted);
        counts.pairs = PairTable::load(from)?;
        counts.recent = ArrivalValues::load(from)?;
        counts.peaks = Peaks::load(from)?;
        Ok(counts)
    }

    /// Loads a group's state. If the state is kept, pass it to [`Self::add_loaded`].
    pub(crate) fn load_state(&self, from: &mut StateReader<'_>) -> Result<State, Damaged> {
        let events = from.u32()?;
        Ok(State { log: PaneLog::load(from, self.values)?, events, ..State::default() })
    }

    /// Adds the memory of a loaded state to the statistics.
    pub(crate) fn add_loaded(&mut self, state: &State) {
        self.log_bytes += state.log.heap_bytes();
    }

    /// Memory outside the states, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.log_bytes + self.pairs.heap_bytes() + self.recent.heap_bytes()
    }
}
