//! The panes of one group that may still matter, oldest first, without the empty ones.
//!
//! 12 bytes a pane, the first three inside the group itself. Appending and leaving at the old end are O(1)
//! amortised; a pane out of order is found by binary search. Invariants: indices ascend strictly;
//! `window_start` is the position of the first pane within the head's window.

use super::PaneIndex;
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// What happened in one pane of one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pane {
    pub(crate) index: PaneIndex,
    /// Matching events.
    pub(crate) events: u32,
    /// Values whose last event lies in this pane.
    pub(crate) last_values: u32,
}

#[derive(Debug, Default)]
pub(crate) struct PaneLog {
    panes: SmallVec<[Pane; 3]>,
    window_start: u32,
}

impl PaneLog {
    /// The newest pane.
    #[inline]
    pub(crate) fn head(&self) -> Option<PaneIndex> {
        self.panes.last().map(|pane| pane.index)
    }

    /// Reads what advancing will read.
    #[inline]
    pub(crate) fn peek(&self) -> PaneIndex {
        let ends = [self.panes.last(), self.panes.get(self.window_start as usize)];
        ends.into_iter().flatten().fold(0, |all, pane| all ^ pane.index)
    }

    /// The panes within the head's window, oldest first.
    pub(crate) fn window(&self) -> &[Pane] {
        &self.panes[self.window_start as usize..]
    }

    /// All panes kept, oldest first.
    pub(crate) fn all(&self) -> &[Pane] {
        &self.panes
    }

    /// Makes `pane` the head and drops panes up to `forget`. `left` is told each pane that leaves the
    /// window, in order. `pane` must not be below the head.
    #[inline]
    pub(crate) fn advance(
        &mut self,
        pane: PaneIndex,
        span: u32,
        forget: PaneIndex,
        mut left: impl FnMut(Pane),
    ) {
        while let Some(&oldest) = self.panes.get(self.window_start as usize) {
            if oldest.index + span > pane {
                break;
            }
            left(oldest);
            self.window_start += 1;
        }
        // Dropping is put off until half the log is behind the window, so that each pane moves O(1) times.
        if self.window_start as usize * 2 > self.panes.len() {
            let dead = self.panes[..self.window_start as usize].partition_point(|p| p.index <= forget);
            self.panes.drain(..dead);
            self.window_start -= dead as u32;
        }
        if self.head() != Some(pane) {
            self.panes.push(Pane { index: pane, events: 0, last_values: 0 });
        }
    }

    /// The pane at `index`, made if it is not there. Returns whether it lies within the head's window.
    #[inline]
    pub(crate) fn at(&mut self, index: PaneIndex, span: u32) -> (&mut Pane, bool) {
        if self.head() == Some(index) {
            let newest = self.panes.len() - 1;
            return (&mut self.panes[newest], true);
        }
        let inside = self.head().is_none_or(|head| index + span > head);
        let position = match self.panes.binary_search_by_key(&index, |pane| pane.index) {
            Ok(position) => position,
            Err(position) => {
                self.panes.insert(position, Pane { index, events: 0, last_values: 0 });
                if !inside {
                    self.window_start += 1;
                }
                position
            }
        };
        (&mut self.panes[position], inside)
    }

    /// The pane at `index`, if it is kept.
    #[inline]
    pub(crate) fn get_mut(&mut self, index: PaneIndex) -> Option<&mut Pane> {
        match self.panes.last_mut() {
            Some(last) if last.index == index => self.panes.last_mut(),
            _ => {
                let position = self.panes.binary_search_by_key(&index, |pane| pane.index).ok()?;
                self.panes.get_mut(position)
            }
        }
    }

    /// Bytes outside the group itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        if self.panes.spilled() { self.panes.capacity() * size_of::<Pane>() } else { 0 }
    }
}

/// A count over a range of panes as a step function, built from intervals that each add to it.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    steps: BTreeMap<PaneIndex, i64>,
}

impl Segments {
    /// Adds `weight` to every pane in `[from, to)`.
    pub(crate) fn add(&mut self, from: PaneIndex, to: PaneIndex, weight: i64) {
        if from < to && weight != 0 {
            *self.steps.entry(from).or_default() += weight;
            *self.steps.entry(to).or_default() -= weight;
        }
    }

    /// The steps that touch `[low, high]`, clipped to it: first pane, last pane, count.
    pub(crate) fn within(
        &self,
        low: PaneIndex,
        high: PaneIndex,
    ) -> impl Iterator<Item = (PaneIndex, PaneIndex, u64)> {
        let mut count = 0;
        let ends = self.steps.keys().skip(1).map(|&next| next - 1).chain([PaneIndex::MAX]);
        self.steps.iter().zip(ends).filter_map(move |((&from, &change), to)| {
            count += change;
            (from <= high && to >= low).then(|| (from.max(low), to.min(high), count.max(0) as u64))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panes_leave_the_window_before_they_are_dropped() {
        let mut log = PaneLog::default();
        let mut left = Vec::new();
        for pane in [10, 11, 13, 20] {
            log.advance(pane, 3, 0, |p| left.push(p.index));
            log.at(pane, 3).0.events += 1;
        }
        assert_eq!(left, [10, 11, 13]);
        assert_eq!(log.all().len(), 4, "nothing may be forgotten yet");
        assert_eq!(log.window().len(), 1);
        assert!(!log.at(12, 3).1);
        assert_eq!(log.window()[0].index, 20);
        log.advance(21, 3, 13, |_| {});
        assert_eq!(log.all().first().map(|p| p.index), Some(20));
    }

    #[test]
    fn steps_are_clipped() {
        let mut s = Segments::default();
        s.add(5, 10, 2);
        s.add(8, 12, 1);
        assert_eq!(s.within(6, 11).collect::<Vec<_>>(), [(6, 7, 2), (8, 9, 3), (10, 11, 1)]);
    }
}
