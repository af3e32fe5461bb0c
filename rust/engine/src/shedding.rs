//! What an engine forgets when memory runs short, and in what order: what has not been seen for longest goes first.
//!
//! One time is chosen, as early as will do; what was last seen before it is forgotten.
//! - A *group* starts at nothing if it comes again. Never one that has an open finding or stands at more than half of a
//!   threshold, and none that a condition is judged for at the watermark.
//! - Of a *value* is forgotten which it was, not that it was counted: a distinct count is never too low for it, and too
//!   high by those that are seen again.
//!
//! So nothing that is about to fire is missed, and what fired may have fired early.

use crate::time::Micros;
use std::ops::AddAssign;

/// Classes of age to a doubling, as a power of two: a bound is at most a ninth too early.
const FINENESS: u32 = 3;
/// Enough for ages up to 2^32 seconds.
const CLASSES: usize = 33 << FINENESS;
const SECOND: Micros = 1_000_000;

/// Bytes by the time since their group or value was last seen.
#[derive(Debug, Clone)]
pub(crate) struct Ages {
    now: Micros,
    bytes: Vec<usize>,
}

impl Ages {
    pub(crate) fn new(now: Micros) -> Self {
        Self { now, bytes: vec![0; CLASSES] }
    }

    /// Adds what was last seen at `time`. What is not older than a second is nothing to be forgotten.
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

    /// About the earliest time before which so many bytes were last seen, or now if there are not so many.
    pub(crate) fn time_before_which(&self, wanted: usize) -> Micros {
        let mut sum = 0;
        let class = (0..CLASSES).rev().find(|&class| {
            sum += self.bytes[class];
            sum >= wanted
        });
        class.map_or(self.now, |class| self.now - youngest(class).saturating_mul(SECOND) + 1)
    }
}

/// The class of an age: its highest bits.
#[inline]
fn class(seconds: Micros) -> Option<usize> {
    let scaled = u64::try_from(seconds).ok()?.checked_shl(FINENESS)?;
    let doubling = scaled.checked_ilog2()?.checked_sub(FINENESS)?;
    let part = (scaled >> doubling) & ((1 << FINENESS) - 1);
    Some((doubling << FINENESS) as usize + part as usize)
}

/// The least age of a class, in seconds.
fn youngest(class: usize) -> Micros {
    let part = class & ((1 << FINENESS) - 1);
    let scaled = ((1 << FINENESS) + part as u64) << (class >> FINENESS);
    (scaled >> FINENESS) as Micros
}

/// What was forgotten, by rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Groups that would start at nothing.
    pub groups: usize,
    /// Values that would count again.
    pub values: usize,
}

impl AddAssign for Forgotten {
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

        /// What lies before the time is enough, and without its youngest class it would not be.
        #[test]
        fn the_time_is_as_early_as_will_do(
            seen in prop::collection::vec((0_i64..5_000_000, 1_usize..100), 1..50), share in 1_usize..120,
        ) {
            let now = 9_000_000 * SECOND;
            let mut ages = Ages::new(now);
            for &(age, bytes) in &seen {
                ages.add(now - age * SECOND, bytes);
            }
            let all: usize = seen.iter().filter(|(age, _)| *age > 0).map(|(_, bytes)| bytes).sum();
            let wanted = (all * share / 100).max(1);
            let time = ages.time_before_which(wanted);
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
    fn what_is_of_this_second_is_of_no_class() {
        assert_eq!(class(0), None);
        assert_eq!(class(-5), None);
        assert_eq!(class(1), Some(0));
    }
}
