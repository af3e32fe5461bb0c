//! Pane log: the panes of one group that have events and are not expired, oldest first, and the count of the newest.
//!
//! The log reaches further back than the newest pane's window: a pane that left this window is kept until the watermark
//! has passed every window that covers it, because out-of-order events can still change those windows' counts.
//!
//! Cost: 8 bytes per pane. The newest pane, three more, and the index of the window's oldest pane are stored inside the
//! group's state. This is enough for most groups, and an in-order event touches other memory only if a pane leaves the
//! window. Appending a pane and dropping the oldest are O(1) amortised; an out-of-order pane is found by binary
//! search.
//!
//! Invariants: indices ascend. `start` is the position of the first past pane in the newest pane's window, `oldest`
//! is that window's first index. A pane with more than 65,535 events or values occupies several entries with the same
//! index.

use crate::foundation::codec::{Damaged, StateReader, StateWriter};
use crate::foundation::prefetch::{prefetch, prefetch_at};

/// Pane number: event time divided by the resolution. At one second per pane a `u32` lasts until 2106.
pub(crate) type PaneIndex = u32;

/// One pane of one group, or a part of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pane {
    pub(crate) index: PaneIndex,
    /// Matching events.
    pub(crate) events: u16,
    /// Values whose last event is in this pane.
    pub(crate) last_values: u16,
}

#[derive(Debug, Default)]
pub(crate) struct PaneLog {
    past: Past,
    /// Newest pane, or the part of it that is not in `past` yet; index 0 (1970) means none.
    head: Pane,
    /// Oldest pane in the newest pane's window.
    oldest: PaneIndex,
    /// Count in the newest pane's window.
    pub(crate) total: u32,
}

/// Past panes stored inside the state.
const FEW: usize = 3;

/// Panes before the newest; those from position `start` on are in the newest pane's window.
#[derive(Debug)]
enum Past {
    Few { start: u8, len: u8, panes: [Pane; FEW] },
    Many { start: u32, panes: Vec<Pane> },
}

impl Default for Past {
    fn default() -> Self {
        Self::Few { start: 0, len: 0, panes: [Pane::default(); FEW] }
    }
}

/// Properties common to all groups of a window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Window length in panes.
    pub(crate) span: u32,
    /// Whether values are counted rather than events.
    pub(crate) values: bool,
    /// Last expired pane: this one and those before it can be dropped.
    pub(crate) expired_through: PaneIndex,
}

/// The counter of a pane to increment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PanePart {
    Event,
    Value,
}

impl Pane {
    /// Contribution of the pane to the count.
    #[inline]
    pub(crate) fn weight(self, values: bool) -> u16 {
        if values { self.last_values } else { self.events }
    }

    #[inline]
    fn part(&mut self, part: PanePart) -> &mut u16 {
        match part {
            PanePart::Event => &mut self.events,
            PanePart::Value => &mut self.last_values,
        }
    }

    fn save(self, to: &mut StateWriter) {
        to.u32(self.index);
        to.u16(self.events);
        to.u16(self.last_values);
    }

    fn load(from: &mut StateReader<'_>) -> Result<Self, Damaged> {
        Ok(Self { index: from.u32()?, events: from.u16()?, last_values: from.u16()? })
    }

    fn has_room(mut self, part: PanePart) -> bool {
        *self.part(part) < u16::MAX
    }
}

impl Past {
    #[inline]
    fn parts(&self) -> (usize, &[Pane]) {
        match self {
            Self::Few { start, len, panes } => (usize::from(*start), &panes[..usize::from(*len)]),
            Self::Many { start, panes } => (*start as usize, panes),
        }
    }

    fn panes_mut(&mut self) -> &mut [Pane] {
        match self {
            Self::Few { len, panes, .. } => &mut panes[..usize::from(*len)],
            Self::Many { panes, .. } => panes,
        }
    }

    #[inline]
    fn set_start(&mut self, to: usize) {
        match self {
            Self::Few { start, .. } => *start = to as u8,
            Self::Many { start, .. } => *start = to as u32,
        }
    }

    /// Drops expired panes if there is no room, or if half of the panes have left the window. Each pane is therefore
    /// moved O(1) times on average.
    fn make_room(&mut self, expired_through: PaneIndex) {
        let (start, panes) = self.parts();
        let is_due = match self {
            Self::Few { .. } => panes.len() == FEW,
            Self::Many { .. } => start * 2 > panes.len(),
        };
        if !is_due {
            return;
        }
        // While the watermark stands still, no pane has expired, however far the newest pane has moved.
        if panes.first().is_none_or(|pane| pane.index > expired_through) {
            return;
        }
        let dead = panes[..start].partition_point(|pane| pane.index <= expired_through);
        match self {
            Self::Few { len, panes, .. } => {
                panes.copy_within(dead..usize::from(*len), 0);
                *len -= dead as u8;
            }
            Self::Many { panes, .. } => drop(panes.drain(..dead)),
        }
        self.set_start(start - dead);
    }

    /// Appends a pane; called if there is no room, or if many panes have left the window.
    #[cold]
    fn push_slow(&mut self, new: Pane, expired_through: PaneIndex, bytes: &mut usize) {
        let before = self.heap_bytes();
        self.make_room(expired_through);
        self.insert(self.parts().1.len(), new);
        *bytes += self.heap_bytes() - before;
    }

    fn insert(&mut self, at: usize, new: Pane) {
        match self {
            Self::Few { len, panes, .. } if usize::from(*len) < FEW => {
                panes.copy_within(at..usize::from(*len), at + 1);
                panes[at] = new;
                *len += 1;
            }
            Self::Few { start, panes, .. } => {
                let mut many = Vec::with_capacity(2 * FEW + 2);
                many.extend_from_slice(panes);
                many.insert(at, new);
                *self = Self::Many { start: u32::from(*start), panes: many };
            }
            Self::Many { panes, .. } => panes.insert(at, new),
        }
    }

    /// Position of an entry for pane `index` for which `fits` is true, or the position at which to insert one.
    fn find(&self, index: PaneIndex, fits: impl Fn(&Pane) -> bool) -> Result<usize, usize> {
        let (_, panes) = self.parts();
        let first = panes.partition_point(|pane| pane.index < index);
        let entries = panes[first..].iter().take_while(|pane| pane.index == index);
        entries.map(fits).position(|fits| fits).map_or(Err(first), |at| Ok(first + at))
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Few { .. } => 0,
            Self::Many { panes, .. } => panes.capacity() * size_of::<Pane>(),
        }
    }
}

impl PaneLog {
    /// Index of the newest pane.
    #[inline]
    pub(crate) fn head(&self) -> Option<PaneIndex> {
        (self.head.index != 0).then_some(self.head.index)
    }

    /// Prefetches what advancing to a pane close to `near` will touch outside the state.
    #[inline]
    pub(crate) fn prefetch_past(&self, span: u32, near: PaneIndex) {
        if let Past::Many { start, panes } = &self.past
            && self.head.index != near
        {
            // The position at which the newest pane will be appended.
            prefetch_at(panes.as_ptr().wrapping_add(panes.len()));
            if self.oldest.saturating_add(span) <= near {
                let start = *start as usize;
                panes.get(start).into_iter().for_each(prefetch);
                // After two panes leave, the next one is read, which can be in the next cache line.
                panes.get(start + 2).into_iter().for_each(prefetch);
            }
        }
    }

    /// Panes in the newest pane's window, oldest first.
    pub(crate) fn window(&self) -> impl Iterator<Item = Pane> {
        let (start, panes) = self.past.parts();
        panes[start..].iter().copied().chain(self.head().map(|_| self.head))
    }

    /// All stored panes from `index` on, oldest first.
    pub(crate) fn from(&self, index: PaneIndex) -> impl Iterator<Item = Pane> {
        let (_, panes) = self.past.parts();
        let first = panes.partition_point(|pane| pane.index < index);
        let head = self.head().filter(|&head| head >= index).map(|_| self.head);
        panes[first..].iter().copied().chain(head)
    }

    /// Makes `to`, a later pane, the newest one. For each pane that leaves the window, oldest first, calls
    /// `on_decrease` with its index and the count before and after. `bytes` is updated by the change of heap memory.
    #[inline]
    pub(crate) fn advance(
        &mut self,
        to: PaneIndex,
        shape: Shape,
        bytes: &mut usize,
        mut on_decrease: impl FnMut(PaneIndex, u32, u32),
    ) {
        let leaves = self.oldest.saturating_add(shape.span) <= to;
        if leaves {
            self.leave(to, shape, &mut on_decrease);
        }
        let before = std::mem::replace(&mut self.head, Pane { index: to, ..Pane::default() });
        if before.index == 0 {
            self.oldest = to;
            return;
        }
        self.retire(before, shape.expired_through, bytes);
        if leaves {
            // The former newest pane can leave too, once it is among the past panes.
            self.leave(to, shape, &mut on_decrease);
        }
    }

    /// Moves the former newest pane to the past panes.
    #[inline]
    fn retire(&mut self, head: Pane, expired_through: PaneIndex, bytes: &mut usize) {
        match &mut self.past {
            Past::Few { len, panes, .. } if usize::from(*len) < FEW => {
                panes[usize::from(*len)] = head;
                *len += 1;
            }
            Past::Many { start, panes }
                if panes.len() < panes.capacity() && *start as usize * 2 <= panes.len() =>
            {
                panes.push(head);
            }
            past => past.push_slow(head, expired_through, bytes),
        }
    }

    /// Removes the past panes that a window ending with `to` does not cover.
    #[inline]
    fn leave(&mut self, to: PaneIndex, shape: Shape, on_decrease: &mut impl FnMut(PaneIndex, u32, u32)) {
        let (start, panes) = self.past.parts();
        let mut at = start;
        while let Some(&left) = panes.get(at).filter(|pane| pane.index + shape.span <= to) {
            let before = self.total;
            self.total -= u32::from(left.weight(shape.values));
            on_decrease(left.index, before, self.total);
            at += 1;
        }
        self.oldest = panes.get(at).map_or(to, |pane| pane.index);
        self.past.set_start(at);
    }

    /// Adds an event and `values` values to the newest pane; drops panes up to `expired_through` if that makes room.
    #[inline]
    pub(crate) fn enter(&mut self, values: u32, expired_through: PaneIndex, bytes: &mut usize) {
        if self.head.events < u16::MAX && values <= u32::from(u16::MAX - self.head.last_values) {
            self.head.events += 1;
            self.head.last_values += values as u16;
        } else {
            self.enter_slow(values, expired_through, bytes);
        }
    }

    /// [`Self::enter`] for a full entry.
    #[cold]
    fn enter_slow(&mut self, values: u32, expired_through: PaneIndex, bytes: &mut usize) {
        let (index, mut events, mut values) = (self.head.index, 1, values);
        while events + values > 0 {
            self.retire(self.head, expired_through, bytes);
            let at_once = values.min(u32::from(u16::MAX));
            self.head = Pane { index, events: events as u16, last_values: at_once as u16 };
            (events, values) = (0, values - at_once);
        }
    }

    /// Adds an event or a value to an earlier pane, creating it if needed. Returns whether the pane is in the newest
    /// pane's window. `bytes` is updated by the change of heap memory.
    pub(crate) fn add_below(
        &mut self,
        index: PaneIndex,
        span: u32,
        part: PanePart,
        bytes: &mut usize,
    ) -> bool {
        let before = self.past.heap_bytes();
        let inside = index + span > self.head.index;
        let at = match self.past.find(index, |pane| pane.has_room(part)) {
            Ok(at) => at,
            Err(at) => {
                self.past.insert(at, Pane { index, ..Pane::default() });
                if inside {
                    self.oldest = self.oldest.min(index);
                } else {
                    self.past.set_start(self.past.parts().0 + 1);
                }
                at
            }
        };
        *self.past.panes_mut()[at].part(part) += 1;
        *bytes += self.past.heap_bytes() - before;
        inside
    }

    /// Removes a value from the pane at `index`, if it is stored and has one.
    #[inline]
    pub(crate) fn take_value(&mut self, index: PaneIndex) {
        if self.head.index == index && self.head.last_values > 0 {
            self.head.last_values -= 1;
        } else if let Ok(at) = self.past.find(index, |pane| pane.last_values > 0) {
            self.past.panes_mut()[at].last_values -= 1;
        }
    }

    /// Memory outside the state, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.past.heap_bytes()
    }

    pub(crate) fn save(&self, to: &mut StateWriter) {
        let (start, panes) = self.past.parts();
        to.u32(self.total);
        to.u32(self.oldest);
        to.u32(start as u32);
        self.head.save(to);
        to.list(panes.iter(), |to, pane| pane.save(to));
    }

    /// `values` tells whether the window counts values.
    pub(crate) fn load(from: &mut StateReader<'_>, values: bool) -> Result<Self, Damaged> {
        let (total, oldest, start) = (from.u32()?, from.u32()?, from.u32()?);
        let head = Pane::load(from)?;
        let len = from.len(size_of::<Pane>())?;
        let past = if len <= FEW {
            let mut panes = [Pane::default(); FEW];
            for pane in &mut panes[..len] {
                *pane = Pane::load(from)?;
            }
            Past::Few { start: start as u8, len: len as u8, panes }
        } else {
            Past::Many { start, panes: (0..len).map(|_| Pane::load(from)).collect::<Result<_, _>>()? }
        };
        let log = Self { past, head, oldest, total };
        let indices = log.from(0).map(|pane| pane.index);
        if start as usize > len || !indices.is_sorted() {
            return Err(Damaged("panes are out of order"));
        }
        if log.window().map(|pane| u32::from(pane.weight(values))).sum::<u32>() != total {
            return Err(Damaged("a count differs from the sum of its panes"));
        }
        Ok(log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn shape(span: u32, expired_through: PaneIndex) -> Shape {
        Shape { span, values: false, expired_through }
    }

    /// Adds an event in order.
    fn add(log: &mut PaneLog, pane: PaneIndex, shape: Shape, left: &mut Vec<PaneIndex>) {
        if log.head() != Some(pane) {
            log.advance(pane, shape, &mut 0, |index, before, after| {
                assert_eq!(before, after + 1);
                left.push(index);
            });
        }
        log.enter(0, shape.expired_through, &mut 0);
        log.total += 1;
    }

    #[test]
    fn panes_leave_the_window_before_they_are_dropped() {
        let mut log = PaneLog::default();
        let mut left = Vec::new();
        for pane in [10, 11, 13, 20] {
            add(&mut log, pane, shape(3, 0), &mut left);
        }
        assert_eq!(left, [10, 11, 13]);
        assert_eq!(log.from(0).count(), 4, "nothing may be dropped yet");
        assert_eq!((log.window().count(), log.total), (1, 1));
        assert!(!log.add_below(12, 3, PanePart::Event, &mut 0));
        assert_eq!(log.window().map(|pane| pane.index).collect::<Vec<_>>(), [20]);
        for (pane, expired_through) in [(21, 13), (30, 20), (31, 20)] {
            add(&mut log, pane, shape(3, expired_through), &mut left);
        }
        assert!(log.from(0).count() <= 5, "{log:?}");
        assert_eq!(left, [10, 11, 13, 20, 21]);
    }

    #[test]
    fn light_group_needs_no_heap() {
        assert!(size_of::<PaneLog>() <= 48);
        let mut log = PaneLog::default();
        for pane in 1..1000_u32 {
            add(&mut log, pane, shape(4, pane.saturating_sub(4)), &mut Vec::new());
            assert_eq!(log.heap_bytes(), 0);
        }
    }

    proptest! {
        /// Panes in any order, one of them so full that it needs several entries: the sums equal those of a map.
        #[test]
        fn sums_equal_those_of_a_map(steps in prop::collection::vec((1_u32..12, prop::bool::weighted(0.03), any::<bool>()), 1..60)) {
            let shape = Shape { span: 5, values: true, expired_through: 0 };
            let mut log = PaneLog::default();
            let mut model: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
            let (mut head, mut bytes) = (0, 0);
            for (index, fill, take) in steps {
                let times = if fill { 70_000 } else { 1 };
                for _ in 0..times {
                    if index >= head {
                        if index > head {
                            log.advance(index, shape, &mut bytes, |_, _, _| {});
                        }
                        head = index;
                        log.enter(1, 0, &mut bytes);
                        log.total += 1;
                    } else {
                        let inside = log.add_below(index, shape.span, PanePart::Event, &mut bytes);
                        prop_assert_eq!(inside, index + shape.span > head);
                        log.add_below(index, shape.span, PanePart::Value, &mut bytes);
                        log.total += u32::from(inside);
                    }
                }
                prop_assert_eq!(log.heap_bytes(), bytes);
                let entry = model.entry(index).or_default();
                *entry = (entry.0 + times, entry.1 + times);
                if take {
                    log.take_value(index);
                    entry.1 -= 1;
                    log.total -= u32::from(index + shape.span > head);
                }
                let sum = |panes: &mut dyn Iterator<Item = Pane>, wanted: u32| {
                    let own = panes.filter(|pane| pane.index == wanted);
                    own.fold((0, 0), |(e, v), pane| (e + u64::from(pane.events), v + u64::from(pane.last_values)))
                };
                let mut within = 0;
                for (&pane, &counts) in &model {
                    prop_assert_eq!(sum(&mut log.from(0), pane), counts);
                    prop_assert_eq!(sum(&mut log.from(pane), pane), counts);
                    let inside = if pane + shape.span > head { counts } else { (0, 0) };
                    prop_assert_eq!(sum(&mut log.window(), pane), inside);
                    within += inside.1;
                }
                prop_assert_eq!(u64::from(log.total), within);
                prop_assert_eq!(Some(log.oldest), log.window().map(|pane| pane.index).next());
                prop_assert!(log.from(0).map(|pane| pane.index).is_sorted());
            }
        }

        /// One pane with more values at once than an entry can hold.
        #[test]
        fn a_full_pane_takes_several_entries(values in 0_u32..200_000, again in 0_u32..200_000) {
            let mut log = PaneLog::default();
            log.advance(7, shape(3, 0), &mut 0, |_, _, _| {});
            log.enter(values, 0, &mut 0);
            log.enter(again, 0, &mut 0);
            let (events, all) = log.window().fold((0, 0), |(e, v), p| (e + u32::from(p.events), v + u32::from(p.last_values)));
            prop_assert_eq!((events, all), (2, values + again));
            prop_assert!(log.window().all(|pane| pane.index == 7));
        }
    }
}
