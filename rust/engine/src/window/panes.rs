//! The panes of one group that may still matter, oldest first, without the empty ones, and the count in the newest one's
//! window.
//!
//! 8 bytes a pane. The newest and three more are inside the group itself, which is all that a light group ever needs;
//! and so is where the oldest of the window is, so that an event looks at nothing else unless that pane leaves.
//! Appending and leaving at the old end are O(1) amortised; a pane out of order is found by binary search.
//! Invariants: indices ascend; `start` is the position of the first past pane within the head's window, `oldest` that
//! window's first index. A pane with more than 65,535 events or values is several entries with one index.

use super::PaneIndex;
use crate::codec::{Damaged, Reader, Writer};
use crate::prefetch::{prefetch, prefetch_at};

/// What happened in one pane of one group, or a part of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pane {
    pub(crate) index: PaneIndex,
    /// Matching events.
    pub(crate) events: u16,
    /// Values whose last event lies in this pane.
    pub(crate) last_values: u16,
}

#[derive(Debug, Default)]
pub(crate) struct PaneLog {
    past: Past,
    /// The newest pane, as far as it is not among the past ones; index 0, which is 1970, for none.
    head: Pane,
    oldest: PaneIndex,
    /// The count in the head's window.
    pub(crate) total: u32,
}

/// Panes kept inside the group, beside the head.
const FEW: usize = 3;

/// The panes before the head.
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

/// What is the same for all groups of a window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Panes a window has.
    pub(crate) span: u32,
    /// Whether it counts values rather than events.
    pub(crate) values: bool,
    /// The last pane that may be forgotten.
    pub(crate) forget: PaneIndex,
}

/// What a pane has that another event or value is added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Event,
    Value,
}

impl Pane {
    /// What it adds to a window that counts values, or events.
    #[inline]
    pub(crate) fn weight(self, values: bool) -> u16 {
        if values { self.last_values } else { self.events }
    }

    #[inline]
    fn part(&mut self, part: Part) -> &mut u16 {
        match part {
            Part::Event => &mut self.events,
            Part::Value => &mut self.last_values,
        }
    }

    fn save(self, to: &mut Writer) {
        to.u32(self.index);
        to.u16(self.events);
        to.u16(self.last_values);
    }

    fn load(from: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self { index: from.u32()?, events: from.u16()?, last_values: from.u16()? })
    }

    fn has_room(mut self, part: Part) -> bool {
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

    /// Drops what may be forgotten, if there is no room or half of it has left the window: so each pane moves O(1)
    /// times.
    fn make_room(&mut self, forget: PaneIndex) {
        let (start, panes) = self.parts();
        let is_due = match self {
            Self::Few { .. } => panes.len() == FEW,
            Self::Many { .. } => start * 2 > panes.len(),
        };
        if !is_due {
            return;
        }
        // Where the watermark stands still, nothing is dead however far the head has come.
        if panes.first().is_none_or(|pane| pane.index > forget) {
            return;
        }
        let dead = panes[..start].partition_point(|pane| pane.index <= forget);
        match self {
            Self::Few { len, panes, .. } => {
                panes.copy_within(dead..usize::from(*len), 0);
                *len -= dead as u8;
            }
            Self::Many { panes, .. } => drop(panes.drain(..dead)),
        }
        self.set_start(start - dead);
    }

    /// Appends where there is no room, or much that may be forgotten.
    #[cold]
    fn push_anew(&mut self, new: Pane, forget: PaneIndex, bytes: &mut usize) {
        let before = self.heap_bytes();
        self.make_room(forget);
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

    /// The position of a pane at `index` that fits, or else where one would be put.
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
    /// The newest pane.
    #[inline]
    pub(crate) fn head(&self) -> Option<PaneIndex> {
        (self.head.index != 0).then_some(self.head.index)
    }

    /// Asks for what advancing to a pane near `near` will touch, where it is not in the group itself.
    #[inline]
    pub(crate) fn prefetch_past(&self, span: u32, near: PaneIndex) {
        if let Past::Many { start, panes } = &self.past
            && self.head.index != near
        {
            // Where the head will be put.
            prefetch_at(panes.as_ptr().wrapping_add(panes.len()));
            if self.oldest.saturating_add(span) <= near {
                let start = *start as usize;
                panes.get(start).into_iter().for_each(prefetch);
                // When two have left, the one behind them is looked at, which may be in the next line.
                panes.get(start + 2).into_iter().for_each(prefetch);
            }
        }
    }

    /// The panes within the head's window, oldest first.
    pub(crate) fn window(&self) -> impl Iterator<Item = Pane> {
        let (start, panes) = self.past.parts();
        panes[start..].iter().copied().chain(self.head().map(|_| self.head))
    }

    /// All panes kept from `index` on, oldest first.
    pub(crate) fn from(&self, index: PaneIndex) -> impl Iterator<Item = Pane> {
        let (_, panes) = self.past.parts();
        let first = panes.partition_point(|pane| pane.index < index);
        let head = self.head().filter(|&head| head >= index).map(|_| self.head);
        panes[first..].iter().copied().chain(head)
    }

    /// Makes `to`, which lies behind the head, the head: what its window does not reach leaves, in order. `fell` hears of
    /// each pane that does, and of the count before and after. `bytes` grows with what lies outside the group.
    #[inline]
    pub(crate) fn advance(
        &mut self,
        to: PaneIndex,
        shape: Shape,
        bytes: &mut usize,
        mut fell: impl FnMut(PaneIndex, u32, u32),
    ) {
        let leaves = self.oldest.saturating_add(shape.span) <= to;
        if leaves {
            self.leave(to, shape, &mut fell);
        }
        let before = std::mem::replace(&mut self.head, Pane { index: to, ..Pane::default() });
        if before.index == 0 {
            self.oldest = to;
            return;
        }
        self.retire(before, shape.forget, bytes);
        if leaves {
            // The head leaves last of all, and only now is it where the others are.
            self.leave(to, shape, &mut fell);
        }
    }

    /// Puts what was the head among the past panes.
    #[inline]
    fn retire(&mut self, head: Pane, forget: PaneIndex, bytes: &mut usize) {
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
            past => past.push_anew(head, forget, bytes),
        }
    }

    /// Lets the past panes go that a window ending with `to` does not reach.
    #[inline]
    fn leave(&mut self, to: PaneIndex, shape: Shape, fell: &mut impl FnMut(PaneIndex, u32, u32)) {
        let (start, panes) = self.past.parts();
        let mut at = start;
        while let Some(&left) = panes.get(at).filter(|pane| pane.index + shape.span <= to) {
            let before = self.total;
            self.total -= u32::from(left.weight(shape.values));
            fell(left.index, before, self.total);
            at += 1;
        }
        self.oldest = panes.get(at).map_or(to, |pane| pane.index);
        self.past.set_start(at);
    }

    /// Adds an event and as many `values` to the head; drops panes up to `forget` where that makes room.
    #[inline]
    pub(crate) fn enter(&mut self, values: u32, forget: PaneIndex, bytes: &mut usize) {
        if self.head.events < u16::MAX && values <= u32::from(u16::MAX - self.head.last_values) {
            self.head.events += 1;
            self.head.last_values += values as u16;
        } else {
            self.enter_anew(values, forget, bytes);
        }
    }

    /// [`Self::enter`], where the head is full.
    #[cold]
    fn enter_anew(&mut self, values: u32, forget: PaneIndex, bytes: &mut usize) {
        let (index, mut events, mut values) = (self.head.index, 1, values);
        while events + values > 0 {
            self.retire(self.head, forget, bytes);
            let at_once = values.min(u32::from(u16::MAX));
            self.head = Pane { index, events: events as u16, last_values: at_once as u16 };
            (events, values) = (0, values - at_once);
        }
    }

    /// Adds an event or a value to the pane at `index`, which lies below the head, made if it is not there. Returns
    /// whether it lies within the head's window; `bytes` grows with what lies outside the group.
    pub(crate) fn add_below(&mut self, index: PaneIndex, span: u32, part: Part, bytes: &mut usize) -> bool {
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

    /// Takes a value from the pane at `index`, if it is kept and has one.
    #[inline]
    pub(crate) fn take_value(&mut self, index: PaneIndex) {
        if self.head.index == index && self.head.last_values > 0 {
            self.head.last_values -= 1;
        } else if let Ok(at) = self.past.find(index, |pane| pane.last_values > 0) {
            self.past.panes_mut()[at].last_values -= 1;
        }
    }

    /// Bytes outside the group itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.past.heap_bytes()
    }

    pub(crate) fn save(&self, to: &mut Writer) {
        let (start, panes) = self.past.parts();
        to.u32(self.total);
        to.u32(self.oldest);
        to.u32(start as u32);
        self.head.save(to);
        to.list(panes.iter(), |to, pane| pane.save(to));
    }

    /// `values` says what the window counts.
    pub(crate) fn load(from: &mut Reader<'_>, values: bool) -> Result<Self, Damaged> {
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
            return Err(Damaged("a count is not that of its panes"));
        }
        Ok(log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn shape(span: u32, forget: PaneIndex) -> Shape {
        Shape { span, values: false, forget }
    }

    /// Adds an event, in order.
    fn add(log: &mut PaneLog, pane: PaneIndex, shape: Shape, left: &mut Vec<PaneIndex>) {
        if log.head() != Some(pane) {
            log.advance(pane, shape, &mut 0, |index, before, after| {
                assert_eq!(before, after + 1);
                left.push(index);
            });
        }
        log.enter(0, shape.forget, &mut 0);
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
        assert_eq!(log.from(0).count(), 4, "nothing may be forgotten yet");
        assert_eq!((log.window().count(), log.total), (1, 1));
        assert!(!log.add_below(12, 3, Part::Event, &mut 0));
        assert_eq!(log.window().map(|pane| pane.index).collect::<Vec<_>>(), [20]);
        for (pane, forget) in [(21, 13), (30, 20), (31, 20)] {
            add(&mut log, pane, shape(3, forget), &mut left);
        }
        assert!(log.from(0).count() <= 5, "{log:?}");
        assert_eq!(left, [10, 11, 13, 20, 21]);
    }

    #[test]
    fn a_light_group_has_no_heap() {
        assert!(size_of::<PaneLog>() <= 48);
        let mut log = PaneLog::default();
        for pane in 1..1000_u32 {
            add(&mut log, pane, shape(4, pane.saturating_sub(4)), &mut Vec::new());
            assert_eq!(log.heap_bytes(), 0);
        }
    }

    proptest! {
        /// Any order of panes, with one so full that it needs several entries: sums as in a map.
        #[test]
        fn sums_are_those_of_a_map(steps in prop::collection::vec((1_u32..12, prop::bool::weighted(0.03), any::<bool>()), 1..60)) {
            let shape = Shape { span: 5, values: true, forget: 0 };
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
                        let inside = log.add_below(index, shape.span, Part::Event, &mut bytes);
                        prop_assert_eq!(inside, index + shape.span > head);
                        log.add_below(index, shape.span, Part::Value, &mut bytes);
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

        /// A pane with more values at once than one entry has room for.
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
