//! Numbers of rules, exact: a number that identifies a person has more digits than a float keeps.

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cmp::Ordering;
use std::fmt;

/// A decimal number of any length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decimal {
    negative: bool,
    /// Significant digits, without zeros at either end; none for zero.
    digits: Vec<u8>,
    /// Power of ten of the first digit: 1 for 7, 2 for 70, 0 for 0.7.
    magnitude: i64,
}

impl Decimal {
    /// Significant digits that an IEEE double keeps exactly.
    const FLOAT_DIGITS: usize = 15;

    /// Reads a number in JSON notation; leading zeros and a plus sign are allowed. `None` for other text.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, unsigned) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = || whole.bytes().chain(fraction.bytes());
        if all().next().is_none() || !all().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let leading = all().take_while(|&byte| byte == b'0').count();
        let mut digits: Vec<u8> = all().skip(leading).collect();
        while digits.last() == Some(&b'0') {
            digits.pop();
        }
        if digits.is_empty() {
            return Some(Self { negative: false, digits, magnitude: 0 });
        }
        let magnitude = whole.len() as i64 - leading as i64 + i64::from(exponent);
        Some(Self { negative, digits, magnitude })
    }

    /// Whether an IEEE double tells this number from all others with as few digits.
    pub fn fits_a_float(&self) -> bool {
        self.digits.len() <= Self::FLOAT_DIGITS && self.magnitude.abs() < 300
    }

    /// The nearest IEEE double.
    pub fn to_f64(&self) -> f64 {
        self.to_string().parse().unwrap_or(f64::NAN)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = std::str::from_utf8(&self.digits).unwrap_or_default();
        let sign = if self.negative { "-" } else { "" };
        let zeros = self.magnitude - self.digits.len() as i64;
        match usize::try_from(zeros) {
            _ if digits.is_empty() => f.write_str("0"),
            Ok(zeros) if zeros <= 40 => write!(f, "{sign}{digits}{}", "0".repeat(zeros)),
            _ => write!(f, "{sign}0.{digits}e{}", self.magnitude),
        }
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |number: &Self| match (number.digits.is_empty(), number.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        };
        let by_sign = sign(self).cmp(&sign(other));
        let by_size = || self.magnitude.cmp(&other.magnitude).then_with(|| self.digits.cmp(&other.digits));
        by_sign.then_with(|| if self.negative { by_size().reverse() } else { by_size() })
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Serialize for Decimal {
    /// A float where it is exact, as in plans of earlier versions; otherwise a text.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.fits_a_float() {
            serializer.serialize_f64(self.to_f64())
        } else {
            serializer.serialize_str(&self.to_string())
        }
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Decimal;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a text with one")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Decimal, E> {
                Decimal::parse(text).ok_or_else(|| E::custom(format!("'{text}' is not a number")))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Decimal, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Decimal, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Decimal, E> {
                self.visit_str(&number.to_string())
            }
        }
        deserializer.deserialize_any(Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    #[test]
    fn numbers_are_equal_in_every_notation() {
        for text in ["7", "7.0", "+7", "007", "70e-1", "0.7E1", "0.07e+2"] {
            assert_eq!(read(text), read("7"), "{text}");
        }
        assert_eq!(read("-0"), read("0.000"));
        assert_ne!(read("9007199254740993"), read("9007199254740992"));
        assert_ne!(read("410105199001011234"), read("410105199001011264"));
        for text in ["", "-", ".", "e5", "1e", "1e99999999999", "inf", "nan", "0x10", "1_000", " 1", "٣"] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
    }

    #[test]
    fn plans_keep_all_digits() {
        for (json, written) in [
            ("12", "12.0"),
            ("-0.5", "-0.5"),
            ("410105199001011234", "\"410105199001011234\""),
            ("\"12345678901234567890123\"", "\"12345678901234567890123\""),
        ] {
            let number: Decimal = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&number).unwrap(), written);
        }
    }

    proptest! {
        #[test]
        fn order_is_that_of_integers(a in any::<i128>(), b in any::<i128>()) {
            prop_assert_eq!(read(&a.to_string()).cmp(&read(&b.to_string())), a.cmp(&b));
            prop_assert_eq!(read(&read(&a.to_string()).to_string()), read(&a.to_string()));
        }

        #[test]
        fn order_is_that_of_floats(a in -1e6..1e6, b in -1e6..1e6) {
            let (a, b) = (format!("{a:.6}"), format!("{b:.6}"));
            let floats = a.parse::<f64>().unwrap().partial_cmp(&b.parse().unwrap());
            prop_assert_eq!(Some(read(&a).cmp(&read(&b))), floats);
        }
    }
}
