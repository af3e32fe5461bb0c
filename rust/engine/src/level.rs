//! Levels: what a condition is held against, as whole numbers that lie in the order of what they stand for.
//!
//! A count is its own level. A real number's is its bit pattern with the sign turned round, so that levels compare as the
//! numbers do (IEEE 754-2008, 5.10). Level 0 stands for nothing to hold against a condition.

/// What levels stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Counts.
    Counts,
    /// Real numbers.
    Reals,
}

const SIGN: u64 = 1 << 63;

impl Scale {
    /// The level of a number, which is not NaN.
    #[inline]
    pub(crate) fn level(self, number: f64) -> u64 {
        match self {
            Self::Counts => number as u64,
            Self::Reals => {
                let bits = (number + 0.0).to_bits(); // There is one zero.
                if bits & SIGN == 0 { bits | SIGN } else { !bits }
            }
        }
    }

    /// The number a level stands for.
    #[inline]
    pub(crate) fn number(self, level: u64) -> f64 {
        match self {
            Self::Counts => level as f64,
            Self::Reals if level == 0 => 0.0,
            Self::Reals => f64::from_bits(if level & SIGN == 0 { !level } else { level & !SIGN }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_in_the_order_of_their_numbers() {
        let numbers =
            [f64::NEG_INFINITY, -2.5, -1e-300, 0.0, f64::MIN_POSITIVE, 1.0, 1.0 + f64::EPSILON, 9e15];
        let levels = numbers.map(|number| Scale::Reals.level(number));
        assert!(levels.is_sorted_by(|a, b| a < b));
        assert!(levels[0] > 0, "nothing is below them all");
        assert!(
            levels
                .iter()
                .zip(numbers)
                .all(|(&level, number)| Scale::Reals.number(level).total_cmp(&number).is_eq())
        );
        assert_eq!(Scale::Reals.level(-0.0), Scale::Reals.level(0.0));
    }
}
