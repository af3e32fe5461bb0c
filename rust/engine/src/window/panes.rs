//! The panes of one group that may still matter, oldest first, without the empty ones.
//!
//! 8 bytes a pane, the first four inside the group itself, which is all that a light group ever needs.
//! Appending and leaving at the old end are O(1) amortised; a pane out of order is found by binary search.
//! Invariants: indices ascend; `start` is the position of the first pane within the head's window. A pane with
//! more than 65,535 events or values is several entries with one index.

use super::PaneIndex;
use crate::prefetch::prefetch;

/// What happened in one pane of one group, or a part of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pane {
    pub(crate) index: PaneIndex,
    /// Matching events.
    pub(crate) events: u16,
    /// Values whose last event lies in this pane.
    pub(crate) last_values: u16,
}

/// Panes kept inside the group.
const FEW: usize = 4;

#[derive(Debug)]
pub(crate) enum PaneLog {
    Few { start: u8, len: u8, panes: [Pane; FEW] },
    Many { start: u32, panes: Vec<Pane> },
}

impl Default for PaneLog {
    fn default() -> Self {
        Self::Few { start: 0, len: 0, panes: [Pane::default(); FEW] }
    }
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

    fn has_room(mut self, part: Part) -> bool {
        *self.part(part) < u16::MAX
    }
}

impl PaneLog {
    #[inline]
    fn parts(&self) -> (usize, &[Pane]) {
        match self {
            Self::Few { start, len, panes } => (usize::from(*start), &panes[..usize::from(*len)]),
            Self::Many { start, panes } => (*start as usize, panes),
        }
    }

    #[inline]
    fn panes_mut(&mut self) -> &mut [Pane] {
        match self {
            Self::Few { len, panes, .. } => &mut panes[..usize::from(*len)],
            Self::Many { panes, .. } => panes,
        }
    }

    fn set_start(&mut self, to: usize) {
        match self {
            Self::Few { start, .. } => *start = to as u8,
            Self::Many { start, .. } => *start = to as u32,
        }
    }

    /// The newest pane.
    #[inline]
    pub(crate) fn head(&self) -> Option<PaneIndex> {
        self.parts().1.last().map(|pane| pane.index)
    }

    /// Asks for what advancing will read, where it is not in the group itself.
    #[inline]
    pub(crate) fn prefetch_ends(&self) {
        if let Self::Many { start, panes } = self {
            panes.last().into_iter().chain(panes.get(*start as usize)).for_each(prefetch);
        }
    }

    /// The panes within the head's window, oldest first.
    pub(crate) fn window(&self) -> &[Pane] {
        let (start, panes) = self.parts();
        &panes[start..]
    }

    /// All panes kept, oldest first.
    pub(crate) fn all(&self) -> &[Pane] {
        self.parts().1
    }

    /// Lets the panes go that a window ending with `pane` does not reach, and tells `left` of each, in order.
    /// `pane` must not be below the head.
    #[inline]
    pub(crate) fn leave(&mut self, pane: PaneIndex, span: u32, mut left: impl FnMut(Pane)) {
        let (start, panes) = self.parts();
        let mut at = start;
        while let Some(&oldest) = panes.get(at).filter(|oldest| oldest.index + span <= pane) {
            left(oldest);
            at += 1;
        }
        if at != start {
            self.set_start(at);
        }
    }

    /// Adds an event and as many `values` to `pane`, which must not be below the head; drops panes up to `forget` where
    /// that makes room. `bytes` grows with the log outside the group.
    #[inline]
    pub(crate) fn enter(&mut self, pane: PaneIndex, values: u32, forget: PaneIndex, bytes: &mut usize) {
        let panes = self.panes_mut();
        if let Some(last) = panes.last_mut()
            && last.index == pane
            && last.events < u16::MAX
            && values <= u32::from(u16::MAX - last.last_values)
        {
            last.events += 1;
            last.last_values += values as u16;
            return;
        }
        if let Self::Few { len, panes, .. } = self
            && let Some(next) = panes.get_mut(usize::from(*len))
            && let Ok(last_values) = u16::try_from(values)
        {
            *next = Pane { index: pane, events: 1, last_values };
            *len += 1;
            return;
        }
        self.enter_with_room(pane, values, forget, bytes);
    }

    #[cold]
    fn enter_with_room(&mut self, pane: PaneIndex, values: u32, forget: PaneIndex, bytes: &mut usize) {
        let before = self.heap_bytes();
        self.make_room(forget);
        let at_once = values.min(u32::from(u16::MAX));
        self.insert(self.parts().1.len(), Pane { index: pane, events: 1, last_values: at_once as u16 });
        *bytes += self.heap_bytes() - before;
        for _ in at_once..values {
            self.add(pane, 0, Part::Value, bytes);
        }
    }

    /// Drops what may be forgotten, if the log is full or half of it has left the window: so each pane moves
    /// O(1) times.
    fn make_room(&mut self, forget: PaneIndex) {
        let (start, panes) = self.parts();
        let is_due = match self {
            Self::Few { .. } => panes.len() == FEW,
            Self::Many { .. } => start * 2 > panes.len(),
        };
        if !is_due {
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

    fn insert(&mut self, at: usize, new: Pane) {
        match self {
            Self::Few { len, panes, .. } if usize::from(*len) < FEW => {
                panes.copy_within(at..usize::from(*len), at + 1);
                panes[at] = new;
                *len += 1;
            }
            Self::Few { start, panes, .. } => {
                let mut many = Vec::with_capacity(2 * FEW);
                many.extend_from_slice(panes);
                many.insert(at, new);
                *self = Self::Many { start: u32::from(*start), panes: many };
            }
            Self::Many { panes, .. } => panes.insert(at, new),
        }
    }

    /// The position of a pane at `index` that fits, or else where one would be put.
    fn find(&self, index: PaneIndex, fits: impl Fn(&Pane) -> bool) -> Result<usize, usize> {
        let panes = self.all();
        if panes.last().is_some_and(|last| last.index == index && fits(last)) {
            return Ok(panes.len() - 1);
        }
        let first = panes.partition_point(|pane| pane.index < index);
        let entries = panes[first..].iter().take_while(|pane| pane.index == index);
        entries.map(fits).position(|fits| fits).map_or(Err(first), |at| Ok(first + at))
    }

    /// Adds an event or a value to the pane at `index`, made if it is not there. Returns whether it lies within
    /// the head's window; `bytes` grows with the log outside the group.
    #[inline]
    pub(crate) fn add(&mut self, index: PaneIndex, span: u32, part: Part, bytes: &mut usize) -> bool {
        let panes = self.panes_mut();
        if let Some(last) = panes.last_mut().filter(|last| last.index == index) {
            let count = last.part(part);
            if *count < u16::MAX {
                *count += 1;
                return true;
            }
        }
        let before = self.heap_bytes();
        let inside = self.add_below(index, span, part);
        *bytes += self.heap_bytes() - before;
        inside
    }

    #[cold]
    fn add_below(&mut self, index: PaneIndex, span: u32, part: Part) -> bool {
        let inside = self.head().is_none_or(|head| index + span > head);
        let at = match self.find(index, |pane| pane.has_room(part)) {
            Ok(at) => at,
            Err(at) => {
                self.insert(at, Pane { index, ..Pane::default() });
                if !inside {
                    self.set_start(self.parts().0 + 1);
                }
                at
            }
        };
        *self.panes_mut()[at].part(part) += 1;
        inside
    }

    /// Takes a value from the pane at `index`, if it is kept and has one.
    #[inline]
    pub(crate) fn take_value(&mut self, index: PaneIndex) {
        if let Ok(at) = self.find(index, |pane| pane.last_values > 0) {
            self.panes_mut()[at].last_values -= 1;
        }
    }

    /// Bytes outside the group itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Few { .. } => 0,
            Self::Many { panes, .. } => panes.capacity() * size_of::<Pane>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn panes_leave_the_window_before_they_are_dropped() {
        let mut log = PaneLog::default();
        let mut left = Vec::new();
        for pane in [10, 11, 13, 20] {
            log.leave(pane, 3, |p| left.push(p.index));
            log.enter(pane, 0, 0, &mut 0);
        }
        assert_eq!(left, [10, 11, 13]);
        assert_eq!(log.all().len(), 4, "nothing may be forgotten yet");
        assert_eq!(log.window().len(), 1);
        assert!(!log.add(12, 3, Part::Event, &mut 0));
        assert_eq!(log.window()[0].index, 20);
        for (pane, forget) in [(21, 13), (30, 20), (31, 20)] {
            log.leave(pane, 3, |_| {});
            log.enter(pane, 0, forget, &mut 0);
        }
        assert!(log.all().len() <= 4, "{log:?}");
    }

    #[test]
    fn a_light_group_has_no_heap() {
        assert!(size_of::<PaneLog>() <= 40);
        let mut log = PaneLog::default();
        for pane in 1..1000 {
            log.leave(pane, 4, |_| {});
            log.enter(pane, 0, pane.saturating_sub(4), &mut 0);
            assert_eq!(log.heap_bytes(), 0);
        }
    }

    proptest! {
        /// Any order of panes, with one so full that it needs several entries: sums as in a map.
        #[test]
        fn sums_are_those_of_a_map(steps in prop::collection::vec((1_u32..12, prop::bool::weighted(0.03), any::<bool>()), 1..60)) {
            const SPAN: u32 = 5;
            let mut log = PaneLog::default();
            let mut model: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
            let (mut head, mut bytes) = (0, 0);
            for (index, fill, take) in steps {
                let times = if fill { 70_000 } else { 1 };
                for _ in 0..times {
                    if index >= head {
                        head = index;
                        log.leave(head, SPAN, |_| {});
                        log.enter(head, 1, 0, &mut bytes);
                    } else {
                        prop_assert_eq!(log.add(index, SPAN, Part::Event, &mut bytes), index + SPAN > head);
                        log.add(index, SPAN, Part::Value, &mut bytes);
                    }
                }
                prop_assert_eq!(log.heap_bytes(), bytes);
                let entry = model.entry(index).or_default();
                *entry = (entry.0 + times, entry.1 + times);
                if take {
                    log.take_value(index);
                    entry.1 -= 1;
                }
                let sum = |panes: &[Pane], wanted: u32| {
                    let own = panes.iter().filter(|pane| pane.index == wanted);
                    own.fold((0, 0), |(e, v), pane| (e + u64::from(pane.events), v + u64::from(pane.last_values)))
                };
                for (&pane, &counts) in &model {
                    prop_assert_eq!(sum(log.all(), pane), counts);
                    let inside = if pane + SPAN > head { counts } else { (0, 0) };
                    prop_assert_eq!(sum(log.window(), pane), inside);
                }
                prop_assert!(log.all().is_sorted_by_key(|pane| pane.index));
            }
        }
    }
}
