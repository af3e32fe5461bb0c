//! Bounded memory: which state is evicted when memory runs short.
//!
//! One cut-off time is chosen for the whole engine, as early as possible; groups and values last seen before it are
//! evicted.
//! - An evicted *group* starts from zero if it returns. Groups with an open finding or above half of a threshold, and
//!   groups of rules that fire on low counts, are never evicted.
//! - An evicted *value* stays in the counts, but is counted again if it returns. A distinct count is therefore never
//!   too low, and too high by the values that return.
//!
//! No group that is close to firing is missed; a rule may fire early.

use crate::foundation::time::Micros;
use std::ops::AddAssign;

/// Age classes per doubling, as a power of two: a cut-off is at most one ninth too early.
const FINENESS: u32 = 3;
/// Enough classes for ages up to 2^32 seconds.
const CLASSES: usize = 33 << FINENESS;
const SECOND: Micros = 1_000_000;

/// Bytes by age of the group or value.
#[derive(Debug, Clone)]
pub(crate) struct AgeHistogram {
    now: Micros,
    bytes: Vec<usize>,
}

impl AgeHistogram {
    pub(crate) fn new(now: Micros) -> Self {
        Self { now, bytes: vec![0; CLASSES] }
    }

    /// Adds state last seen at `time`. State younger than one second is never evicted.
    #[inline]
    pub(crate) fn add(&mut self, time: Micros, bytes: usize) {
        let seconds = self.now.saturating_sub(time) / SECOND;
        if let Some(class) = class(seconds)
            && let Some(sum) = self.bytes.get_mut(class)
        {
            *sum += bytes;
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.bytes.iter_mut().zip(&other.bytes).for_each(|(sum, bytes)| *sum += bytes);
    }

    /// Approximately the earliest cut-off before which `wanted` bytes were last seen; the current time if there are
    /// fewer.
    pub(crate) fn cutoff_to_free(&self, wanted: usize) -> Micros {
        let mut sum = 0;
        let class = (0..CLASSES).rev().find(|&class| {
            sum += self.bytes[class];
            sum >= wanted
        });
        class.map_or(self.now, |class| self.now - youngest(class).saturating_mul(SECOND) + 1)
    }
}

/// Class of an age: its highest bits.
#[inline]
fn class(seconds: Micros) -> Option<usize> {
    let scaled = u64::try_from(seconds).ok()?.checked_shl(FINENESS)?;
    let doubling = scaled.checked_ilog2()?.checked_sub(FINENESS)?;
    let part = (scaled >> doubling) & ((1 << FINENESS) - 1);
    Some((doubling << FINENESS) as usize + part as usize)
}

/// Smallest age in a class, in seconds.
fn youngest(class: usize) -> Micros {
    let part = class & ((1 << FINENESS) - 1);
    let scaled = ((1 << FINENESS) + part as u64) << (class >> FINENESS);
    (scaled >> FINENESS) as Micros
}

/// Evicted state of one rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EvictedCounts {
    /// Groups that would start from zero.
    pub groups: usize,
    /// Values that would count again.
    pub values: usize,
}

impl AddAssign for EvictedCounts {
    fn add_assign(&mut self, more: Self) {
        self.groups += more.groups;
        self.values += more.values;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_age_is_in_its_class(seconds in 1_i64..1 << 32) {
            let class = class(seconds).unwrap();
            prop_assert!(youngest(class) <= seconds && seconds < youngest(class + 1), "{class}");
            prop_assert!(seconds - youngest(class) <= seconds / 9 + 1);
            prop_assert!(class < CLASSES);
        }

        /// The cut-off frees enough, and a cut-off one class earlier would not.
        #[test]
        fn cutoff_is_as_early_as_possible(
            seen in prop::collection::vec((0_i64..5_000_000, 1_usize..100), 1..50), share in 1_usize..120,
        ) {
            let now = 9_000_000 * SECOND;
            let mut ages = AgeHistogram::new(now);
            for &(age, bytes) in &seen {
                ages.add(now - age * SECOND, bytes);
            }
            let all: usize = seen.iter().filter(|(age, _)| *age > 0).map(|(_, bytes)| bytes).sum();
            let wanted = (all * share / 100).max(1);
            let time = ages.cutoff_to_free(wanted);
            let before = |time: Micros| -> usize {
                seen.iter().filter(|(age, _)| now - age * SECOND < time).map(|(_, bytes)| bytes).sum()
            };
            if wanted > all {
                prop_assert_eq!(time, now);
            } else {
                prop_assert!(before(time) >= wanted);
                let age = (now - time + 1) / SECOND;
                prop_assert!(before(now - (age + age / 8 + 1) * SECOND + 1) < wanted);
            }
        }
    }

    #[test]
    fn ages_below_a_second_have_no_class() {
        assert_eq!(class(0), None);
        assert_eq!(class(-5), None);
        assert_eq!(class(1), Some(0));
    }
}
