//! A count over a range of panes, as a step function.

use super::panes::PaneIndex;
use std::collections::BTreeMap;

/// Sum of weighted intervals, stored as the change of the count at each pane where an interval starts or ends.
#[derive(Debug, Default)]
pub(crate) struct StepFunction {
    steps: BTreeMap<PaneIndex, i64>,
}

impl StepFunction {
    /// Adds `weight` to every pane in `[from, to)`.
    pub(crate) fn add(&mut self, from: PaneIndex, to: PaneIndex, weight: i64) {
        if from < to && weight != 0 {
            *self.steps.entry(from).or_default() += weight;
            *self.steps.entry(to).or_default() -= weight;
        }
    }

    /// Steps that intersect `[low, high]`, clipped to it: first pane, last pane, count.
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
    fn steps_are_clipped() {
        let mut s = StepFunction::default();
        s.add(5, 10, 2);
        s.add(8, 12, 1);
        assert_eq!(s.within(6, 11).collect::<Vec<_>>(), [(6, 7, 2), (8, 9, 3), (10, 11, 1)]);
    }
}
