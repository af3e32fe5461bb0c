//! Order-preserving encoding of counts and real numbers as `u64` *levels*, so that rules compare both with the same
//! code.
//!
//! A count is encoded as itself. A real number is encoded as its bit pattern with the sign bit flipped, and all other
//! bits flipped too if it is negative; levels then compare as the numbers do (IEEE 754-2008, 5.10). Level 0 means
//! that there is no value.

/// Kind of number that a level encodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Counts.
    Counts,
    /// Real numbers.
    Reals,
}

const SIGN: u64 = 1 << 63;

impl Scale {
    /// Encodes a number, which must not be NaN.
    #[inline]
    pub(crate) fn encode(self, number: f64) -> u64 {
        match self {
            Self::Counts => number as u64,
            Self::Reals => {
                let bits = (number + 0.0).to_bits(); // turns -0.0 into 0.0
                if bits & SIGN == 0 { bits | SIGN } else { !bits }
            }
        }
    }

    /// Decodes a level.
    #[inline]
    pub(crate) fn decode(self, level: u64) -> f64 {
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
    fn levels_compare_as_their_numbers() {
        let numbers =
            [f64::NEG_INFINITY, -2.5, -1e-300, 0.0, f64::MIN_POSITIVE, 1.0, 1.0 + f64::EPSILON, 9e15];
        let levels = numbers.map(|number| Scale::Reals.encode(number));
        assert!(levels.is_sorted_by(|a, b| a < b));
        assert!(levels[0] > 0, "zero is below all levels");
        assert!(
            levels
                .iter()
                .zip(numbers)
                .all(|(&level, number)| Scale::Reals.decode(level).total_cmp(&number).is_eq())
        );
        assert_eq!(Scale::Reals.encode(-0.0), Scale::Reals.encode(0.0));
    }
}
