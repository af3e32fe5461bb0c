//! Aggregates of a window other than counts: sums, means, quantiles, sequences and patterns of conditions.
//!
//! Each group has one [`Cell`] per pane with events. While the watermark has not passed a pane, its cell keeps every
//! entry, so that arrival order does not matter. Afterwards the cell is *condensed* to the data that the measure needs:
//! the sum for sums and means, the amounts for quantiles, the changes between conditions for sequences and patterns.
//!
//! A *level* is the measured value of a window, encoded as an integer that sorts like the value
//! ([`crate::foundation::ordered`]).
//!
//! Invariants: cells ascend by pane; [`Row::front`] and [`Row::head`] describe the window of the newest cell. Sums are
//! integers (millionths), so they do not depend on the order of additions.
//!
//! Cost: 16 bytes per entry. An in-order event costs O(1) for sums and means, otherwise time proportional to the
//! window's cells, and only when the rule may fire.

use super::chunked_vec::ChunkedVec;
use super::panes::PaneIndex;
use super::peaks::{Peaks, eighth};
use crate::foundation::codec::{Damaged, StateReader, StateWriter};
use crate::foundation::ordered::Scale;
use crate::foundation::time::Micros;
use crate::plan::{MeasurePlan, Way};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::ops::{AddAssign, Range, SubAssign};

/// Millionths per unit.
const FINENESS: f64 = 1e6;
/// Up to this many cells or entries are stored without spare capacity.
const FEW: usize = 4;
/// Amounts are clamped to this, so that no sum overflows.
const MOST: f64 = 1e18;

/// A run of panes with equal levels: first pane, last pane, level.
pub(crate) type LevelRun = (PaneIndex, PaneIndex, u64);

/// One measure over one window, for every group.
#[derive(Debug)]
pub(crate) struct Aggregates {
    measure: MeasurePlan,
    span: u32,
    /// One row per slot.
    rows: ChunkedVec<Row>,
    peaks: Peaks,
    bytes: usize,
}

/// Cells of one group, from the oldest pane still needed.
#[derive(Debug, Default)]
struct Row {
    cells: VecDeque<Cell>,
    /// Index of the first cell in the window of the newest cell, and the total of that window.
    front: usize,
    head: Total,
}

/// Events of one pane.
#[derive(Debug)]
struct Cell {
    pane: PaneIndex,
    /// In arrival order until condensed, then in time order.
    entries: Vec<Entry>,
    is_condensed: bool,
    total: Total,
    /// Conditions met in the pane, as a bit set.
    met: u64,
}

/// Measured value of one event: IEEE bits of an amount, or a bit set of the conditions it meets.
#[derive(Debug, Clone, Copy)]
struct Entry {
    time: Micros,
    datum: u64,
}

/// Sum and number of amounts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Total {
    millionths: i128,
    amounts: u64,
}

impl AddAssign for Total {
    fn add_assign(&mut self, more: Self) {
        self.millionths += more.millionths;
        self.amounts += more.amounts;
    }
}

impl SubAssign for Total {
    fn sub_assign(&mut self, less: Self) {
        self.millionths -= less.millionths;
        self.amounts -= less.amounts;
    }
}

impl Total {
    fn of(measure: &MeasurePlan, datum: u64) -> Self {
        if !measure.has_amounts() {
            return Self::default();
        }
        let amount = f64::from_bits(datum).clamp(-MOST, MOST);
        // Negative amounts would let a sum fall when events are added.
        let amount = if matches!(measure, MeasurePlan::Sum { .. }) { amount.max(0.0) } else { amount };
        Self { millionths: (amount * FINENESS).round() as i128, amounts: 1 }
    }

    /// Encoded sum or mean.
    fn level(self, measure: &MeasurePlan) -> u64 {
        let sum = self.millionths as f64 / FINENESS;
        match measure {
            _ if self.amounts == 0 => 0,
            MeasurePlan::Mean { .. } => Scale::Reals.encode(sum / self.amounts as f64),
            _ => Scale::Reals.encode(sum),
        }
    }
}

impl Cell {
    fn new(pane: PaneIndex) -> Self {
        Self { pane, entries: Vec::new(), is_condensed: false, total: Total::default(), met: 0 }
    }

    /// Entries sorted by time.
    fn in_order(&self) -> Vec<Entry> {
        let mut entries = self.entries.clone();
        entries.sort_by_key(|entry| entry.time);
        entries
    }

    /// Drops the entries that are no longer needed once the pane is final.
    fn condense(&mut self, measure: &MeasurePlan) {
        self.is_condensed = true;
        match measure {
            MeasurePlan::Sum { .. } | MeasurePlan::Mean { .. } => self.entries = Vec::new(),
            MeasurePlan::Quantile { .. } => self.entries.shrink_to_fit(),
            MeasurePlan::InOrder | MeasurePlan::Pattern { .. } => {
                let mut moments = self.in_order();
                moments.dedup_by(|next, moment| {
                    let is_same = next.time == moment.time;
                    moment.datum |= if is_same { next.datum } else { 0 };
                    is_same
                });
                moments.dedup_by_key(|moment| moment.datum);
                moments.shrink_to_fit();
                self.entries = moments;
            }
        }
    }

    fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }
}

impl Row {
    fn heap_bytes(&self) -> usize {
        let entries: usize = self.cells.iter().map(Cell::heap_bytes).sum();
        self.cells.capacity() * size_of::<Cell>() + entries
    }

    /// Indices of the cells with panes in `low..=high`.
    fn between(&self, low: PaneIndex, high: PaneIndex) -> Range<usize> {
        let from = self.cells.partition_point(|cell| cell.pane < low);
        from..self.cells.partition_point(|cell| cell.pane <= high).max(from)
    }

    fn total(&self, cells: Range<usize>) -> Total {
        let mut total = Total::default();
        self.cells.range(cells).for_each(|cell| total += cell.total);
        total
    }

    fn met(&self, cells: Range<usize>) -> u64 {
        self.cells.range(cells).fold(0, |met, cell| met | cell.met)
    }

    /// Recomputes the window of the newest cell.
    fn find_head(&mut self, span: u32) {
        let newest = self.cells.back().map_or(0, |cell| cell.pane);
        let head = self.between((newest + 1).saturating_sub(span), newest);
        (self.front, self.head) = (head.start, self.total(head));
    }
}

impl Aggregates {
    pub(crate) fn new(measure: &MeasurePlan, span: u32) -> Self {
        Self { measure: measure.clone(), span, rows: ChunkedVec::new(1), peaks: Peaks::default(), bytes: 0 }
    }

    pub(crate) fn measure(&self) -> &MeasurePlan {
        &self.measure
    }

    /// Adds an event to a pane of a group; `data` are its measured values. If the event starts a new newest cell, cells
    /// before pane `first_kept` are removed, and cells before `watermark_pane` are condensed.
    pub(crate) fn add(
        &mut self,
        slot: u32,
        (pane, time): (PaneIndex, Micros),
        data: &[u64],
        (first_kept, watermark_pane): (PaneIndex, PaneIndex),
    ) {
        let Self { measure, span, rows, bytes, peaks } = self;
        // Most groups have few events; grow by one element at first.
        let grows_by_one = |len: usize, capacity: usize| len == capacity && len < FEW;
        rows.reach(slot);
        let Some([row]) = rows.get_mut(slot) else { return };
        let mut place = row.cells.partition_point(|cell| cell.pane < pane);
        let is_newest = place == row.cells.len();
        if row.cells.get(place).is_none_or(|cell| cell.pane != pane) {
            let before = row.cells.capacity();
            if grows_by_one(row.cells.len(), before) {
                row.cells.reserve_exact(1);
            }
            row.cells.insert(place, Cell::new(pane));
            *bytes += (row.cells.capacity() - before) * size_of::<Cell>();
            if is_newest {
                while row.cells.front().is_some_and(|cell| cell.pane < first_kept && cell.pane < pane) {
                    *bytes -= row.cells.pop_front().map_or(0, |cell| cell.heap_bytes());
                }
                for cell in row.cells.iter_mut().rev().filter(|cell| cell.pane < watermark_pane) {
                    if cell.is_condensed {
                        break;
                    }
                    *bytes -= cell.heap_bytes();
                    cell.condense(measure);
                    *bytes += cell.heap_bytes();
                }
            }
            row.find_head(*span);
            place = row.cells.partition_point(|cell| cell.pane < pane);
        }
        let cell = &mut row.cells[place];
        for &datum in data {
            let more = Total::of(measure, datum);
            cell.total += more;
            if place >= row.front {
                row.head += more;
            }
            if !measure.has_amounts() {
                cell.met |= datum;
            }
            if !(cell.is_condensed && matches!(measure, MeasurePlan::Sum { .. } | MeasurePlan::Mean { .. })) {
                let before = cell.heap_bytes();
                if grows_by_one(cell.entries.len(), cell.entries.capacity()) {
                    cell.entries.reserve_exact(1);
                }
                cell.entries.push(Entry { time, datum });
                *bytes += cell.heap_bytes() - before;
            }
        }
        if let Some(level) = at_most(measure, row) {
            peaks.record_in(eighth(pane, *span), level);
        }
    }

    fn row(&self, slot: u32) -> Option<&Row> {
        self.rows.get(slot)?.first()
    }

    /// Discards a group's cells.
    pub(crate) fn clear(&mut self, slot: u32) {
        if let Some([row]) = self.rows.get_mut(slot) {
            self.bytes -= row.heap_bytes();
            *row = Row::default();
        }
    }

    /// Whether the window of the group's newest pane may have reached `level`. May return true wrongly, never false.
    #[inline]
    pub(crate) fn may_have_come_to(&self, slot: u32, level: u64) -> bool {
        self.row(slot).is_some_and(|row| at_most(&self.measure, row).is_none_or(|most| most >= level))
    }

    /// Upper bound of the largest level in any group within one timespan before pane `newest`.
    pub(crate) fn largest(&self, newest: PaneIndex) -> u64 {
        self.peaks.largest(eighth(newest, self.span))
    }

    /// Level of the window that ends with `pane`.
    pub(crate) fn level(&self, slot: u32, pane: PaneIndex) -> u64 {
        let Some(row) = self.row(slot) else { return 0 };
        let window = row.between((pane + 1).saturating_sub(self.span), pane);
        let total = row.total(window.clone());
        self.measured(row, window, total)
    }

    /// Last pane up to which the level stays at least `level` if no further event arrives; the level of `pane` must be
    /// at least that. Only for measures that more events can only raise.
    pub(crate) fn stays(&self, slot: u32, pane: PaneIndex, level: u64) -> PaneIndex {
        let Some(row) = self.row(slot) else { return pane };
        let window = row.between((pane + 1).saturating_sub(self.span), pane);
        // Removing a window's oldest cells never raises the level, so the first cell whose removal drops it below
        // `level` can be found by binary search.
        let mut total = row.total(window.clone());
        let (mut low, mut high) = (window.start, window.end);
        if self.measure.has_amounts() {
            while low < high {
                total -= row.cells[low].total;
                if self.measured(row, low + 1..high, total) < level {
                    break;
                }
                low += 1;
            }
        } else {
            while low < high {
                let middle = low + (high - low) / 2;
                if self.measured(row, middle + 1..window.end, total) < level {
                    high = middle;
                } else {
                    low = middle + 1;
                }
            }
        }
        row.cells.get(low).map_or(pane, |cell| cell.pane + self.span - 1)
    }

    /// Levels of panes `low..=high`.
    pub(crate) fn levels(&self, slot: u32, low: PaneIndex, high: PaneIndex) -> Vec<LevelRun> {
        let Some(row) = self.row(slot) else { return Vec::new() };
        let near = row.between((low + 1).saturating_sub(self.span), high);
        let changes = row.cells.range(near.clone()).flat_map(|cell| [cell.pane, cell.pane + self.span]);
        let mut edges: Vec<PaneIndex> =
            changes.filter(|edge| (low..=high).contains(edge)).chain([low]).collect();
        edges.sort_unstable();
        edges.dedup();
        let ends: Vec<PaneIndex> = edges.iter().skip(1).map(|next| next - 1).chain([high]).collect();
        let (mut window, mut total) = (near.start..near.start, Total::default());
        let mut runs = Vec::with_capacity(edges.len());
        for (first, last) in edges.into_iter().zip(ends) {
            while window.end < near.end && row.cells[window.end].pane <= first {
                total += row.cells[window.end].total;
                window.end += 1;
            }
            while window.start < window.end && row.cells[window.start].pane + self.span <= first {
                total -= row.cells[window.start].total;
                window.start += 1;
            }
            runs.push((first, last, self.measured(row, window.clone(), total)));
        }
        runs
    }

    /// Time of the event, in order of event time, at which pane `first` reached `level`; `None` if the pane is
    /// condensed.
    pub(crate) fn reached_at(&self, slot: u32, first: PaneIndex, level: u64) -> Option<Micros> {
        let row = self.row(slot)?;
        let place = row.cells.binary_search_by_key(&first, |cell| cell.pane).ok()?;
        let cell = row.cells.get(place).filter(|cell| !cell.is_condensed)?;
        let before = row.between((first + 1).saturating_sub(self.span), first.checked_sub(1)?);
        let entries = cell.in_order();
        let mut total = row.total(before.clone());
        for (at, entry) in entries.iter().enumerate() {
            total += Total::of(&self.measure, entry.datum);
            let ends_a_moment = entries.get(at + 1).is_none_or(|next| next.time > entry.time);
            if ends_a_moment && self.measured_with(row, before.clone(), &entries[..=at], total) >= level {
                return Some(entry.time);
            }
        }
        None
    }

    fn measured(&self, row: &Row, cells: Range<usize>, total: Total) -> u64 {
        self.measured_with(row, cells, &[], total)
    }

    /// Level of a range of cells followed by some entries; `total` is the total of both.
    fn measured_with(&self, row: &Row, cells: Range<usize>, after: &[Entry], total: Total) -> u64 {
        match &self.measure {
            MeasurePlan::Sum { .. } | MeasurePlan::Mean { .. } => total.level(&self.measure),
            MeasurePlan::Quantile { quantile, .. } => {
                let entries = row.cells.range(cells).flat_map(|cell| &cell.entries).chain(after);
                let amounts: Vec<f64> = entries.map(|entry| f64::from_bits(entry.datum)).collect();
                if amounts.is_empty() { 0 } else { Scale::Reals.encode(quantile_of(amounts, *quantile)) }
            }
            MeasurePlan::InOrder => longest_chain(&moments(row, cells, after)),
            MeasurePlan::Pattern { ways } => {
                let met = row.met(cells.clone()) | after.iter().fold(0, |met, entry| met | entry.datum);
                let mut moments_of = None;
                let holds = ways.iter().any(|way| {
                    way.is_among(met)
                        && (!way.in_order
                            || way.is_in_order(
                                moments_of.get_or_insert_with(|| moments(row, cells.clone(), after)),
                            ))
                });
                u64::from(holds)
            }
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.bytes + self.rows.heap_bytes()
    }

    /// Bytes of one slot, whether a group uses it or not.
    pub(crate) fn row_bytes(&self) -> usize {
        self.rows.row_bytes()
    }

    /// Further memory of one group, in bytes.
    pub(crate) fn bytes_of(&self, slot: u32) -> usize {
        self.row(slot).map_or(0, Row::heap_bytes)
    }

    /// Saves one group.
    pub(crate) fn save(&self, slot: u32, to: &mut StateWriter) {
        let none = VecDeque::new();
        let cells = self.row(slot).map_or(&none, |row| &row.cells);
        to.list(cells.iter(), |to, cell| {
            to.u32(cell.pane);
            to.flag(cell.is_condensed);
            to.raw(cell.total.millionths.to_le_bytes());
            to.u64(cell.total.amounts);
            to.u64(cell.met);
            to.list(cell.entries.iter(), |to, entry| {
                to.i64(entry.time);
                to.u64(entry.datum);
            });
        });
    }

    /// Loads one group.
    pub(crate) fn load(&mut self, slot: u32, from: &mut StateReader<'_>) -> Result<(), Damaged> {
        let cells: VecDeque<Cell> = from.list(45, |from| {
            Ok(Cell {
                pane: from.u32()?,
                is_condensed: from.flag()?,
                total: Total { millionths: i128::from_le_bytes(from.raw()?), amounts: from.u64()? },
                met: from.u64()?,
                entries: from
                    .list(size_of::<Entry>(), |from| Ok(Entry { time: from.i64()?, datum: from.u64()? }))?,
            })
        })?;
        if !cells.iter().is_sorted_by(|cell, next| cell.pane < next.pane) {
            return Err(Damaged("the cells of an aggregate are out of order"));
        }
        self.rows.reach(slot);
        if let Some([row]) = self.rows.get_mut(slot) {
            row.cells = cells;
            self.bytes += row.heap_bytes();
            row.find_head(self.span);
        }
        Ok(())
    }
}

/// Upper bound of the level of the newest pane's window, if it can be computed without visiting every entry.
fn at_most(measure: &MeasurePlan, row: &Row) -> Option<u64> {
    let met = || row.met(row.front..row.cells.len());
    match measure {
        MeasurePlan::Sum { .. } | MeasurePlan::Mean { .. } => Some(row.head.level(measure)),
        MeasurePlan::Quantile { .. } => None,
        MeasurePlan::InOrder => Some(u64::from(met().count_ones())),
        MeasurePlan::Pattern { ways } => Some(u64::from(ways.iter().any(|way| way.is_among(met())))),
    }
}

/// Conditions met at each distinct event time, as bit sets in time order.
fn moments(row: &Row, cells: Range<usize>, after: &[Entry]) -> Vec<u64> {
    let mut moments: Vec<(Micros, u64)> = Vec::new();
    let mut note = |entry: &Entry| match moments.last_mut() {
        Some((time, met)) if *time == entry.time => *met |= entry.datum,
        _ => moments.push((entry.time, entry.datum)),
    };
    for cell in row.cells.range(cells) {
        cell.in_order().iter().for_each(&mut note);
    }
    after.iter().for_each(&mut note);
    moments.into_iter().map(|(_, met)| met).collect()
}

/// Length of the longest sequence of distinct conditions met in their own order; conditions met at the same time
/// count in order.
fn longest_chain(moments: &[u64]) -> u64 {
    let mut longest: SmallVec<[u64; 8]> = SmallVec::new();
    for &met in moments {
        let mut before = 0;
        for condition in 0..(u64::BITS - met.leading_zeros()) as usize {
            if longest.len() == condition {
                longest.push(0);
            }
            if met >> condition & 1 == 1 {
                longest[condition] = longest[condition].max(before + 1);
            }
            before = before.max(longest[condition]);
        }
    }
    longest.into_iter().max().unwrap_or(0)
}

/// Quantile with linear interpolation (Hyndman and Fan, definition 7).
fn quantile_of(mut amounts: Vec<f64>, quantile: f64) -> f64 {
    let position = quantile * (amounts.len() - 1) as f64;
    let (_, &mut below, above) = amounts.select_nth_unstable_by(position as usize, f64::total_cmp);
    let next = above.iter().copied().min_by(f64::total_cmp).unwrap_or(below);
    below + (next - below) * position.fract()
}

impl Way {
    /// Whether the conditions allow this way, in any order.
    fn is_among(&self, met: u64) -> bool {
        let bit = |&condition: &usize| met >> condition & 1 == 1;
        self.met.iter().all(bit) && !self.absent.iter().any(bit)
    }

    /// Whether the conditions were met in the way's order.
    fn is_in_order(&self, moments: &[u64]) -> bool {
        let mut wanted = self.met.iter().peekable();
        for met in moments {
            while wanted.next_if(|&&condition| met >> condition & 1 == 1).is_some() {}
        }
        wanted.peek().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_amounts() {
        for (quantile, expected) in [(0.0, 1.0), (0.5, 2.5), (0.25, 1.75), (1.0, 4.0)] {
            assert_eq!(
                Scale::Reals.encode(quantile_of(vec![4.0, 1.0, 3.0, 2.0], quantile)),
                Scale::Reals.encode(expected)
            );
        }
    }

    #[test]
    fn chains_follow_the_order_of_the_conditions() {
        for (moments, longest) in [
            (&[0b001, 0b100, 0b010][..], 2),
            (&[0b001, 0b010, 0b100], 3),
            (&[0b111], 3),
            (&[0b100, 0b010, 0b001], 1),
            (&[], 0),
        ] {
            assert_eq!(longest_chain(moments), longest, "{moments:?}");
        }
    }
}
