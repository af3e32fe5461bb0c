//! Fast path for captures of fixed length such as `^([0-9]{6})[0-9]{12}$`: one table look-up per character instead of a
//! regex search.

use regex_syntax::hir::{Class, Hir, HirKind, Look};
use std::ops::Range;

/// Longer patterns use the regex.
const LONGEST: usize = 64;

/// Allowed characters at each position of the whole text, and the captured range.
#[derive(Debug, Clone)]
pub(crate) struct FixedPattern {
    /// Allowed bytes per position, one bit each.
    places: Vec<[u64; 2]>,
    captured: Range<usize>,
}

impl FixedPattern {
    /// Compiles a pattern of fixed length: anchored at both ends, ASCII only, with at most one group. `None` for others.
    pub(crate) fn of(pattern: &str) -> Option<Self> {
        let parsed = regex_syntax::parse(pattern).ok()?;
        let HirKind::Concat(parts) = parsed.kind() else { return None };
        let [first, parts @ .., last] = &parts[..] else { return None };
        let is = |part: &Hir, look: Look| matches!(part.kind(), HirKind::Look(known) if *known == look);
        if !is(first, Look::Start) || !is(last, Look::End) {
            return None;
        }
        let mut fixed = Self { places: Vec::new(), captured: 0..0 };
        let mut group = None;
        for part in parts {
            if let HirKind::Capture(capture) = part.kind() {
                let from = fixed.places.len();
                fixed.add(&capture.sub)?;
                if group.replace(from..fixed.places.len()).is_some() {
                    return None;
                }
            } else {
                fixed.add(part)?;
            }
        }
        fixed.captured = group.unwrap_or(0..fixed.places.len());
        Some(fixed)
    }

    /// Appends the positions of a part of the pattern.
    fn add(&mut self, part: &Hir) -> Option<()> {
        match part.kind() {
            HirKind::Literal(literal) => {
                for &byte in &literal.0 {
                    self.push(byte..=byte)?;
                }
            }
            HirKind::Class(Class::Unicode(class)) => {
                let mut place = [0; 2];
                for range in class.ranges() {
                    let (start, end) = (u8::try_from(range.start()).ok()?, u8::try_from(range.end()).ok()?);
                    (start..=end).try_for_each(|byte| allow(&mut place, byte))?;
                }
                self.places.push(place);
            }
            HirKind::Repetition(repetition) if Some(repetition.min) == repetition.max => {
                for _ in 0..repetition.min {
                    self.add(&repetition.sub)?;
                }
            }
            HirKind::Concat(parts) => {
                for part in parts {
                    self.add(part)?;
                }
            }
            _ => return None,
        }
        (self.places.len() <= LONGEST).then_some(())
    }

    fn push(&mut self, mut bytes: impl Iterator<Item = u8>) -> Option<()> {
        let mut place = [0; 2];
        bytes.try_for_each(|byte| allow(&mut place, byte))?;
        self.places.push(place);
        Some(())
    }

    /// Captured range, if the text matches.
    #[inline]
    pub(crate) fn capture(&self, text: &str) -> Option<(usize, usize)> {
        let may_be = |(&byte, place): (&u8, &[u64; 2])| {
            byte.is_ascii() && place[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1
        };
        let matches = text.len() == self.places.len() && text.as_bytes().iter().zip(&self.places).all(may_be);
        matches.then_some((self.captured.start, self.captured.end))
    }
}

/// Allows a byte at a position, if it is ASCII.
fn allow(place: &mut [u64; 2], byte: u8) -> Option<()> {
    *place.get_mut(usize::from(byte >> 6))? |= 1 << (byte & 63);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use regex::Regex;

    const PATTERNS: [&str; 6] = [
        "^([0-9]{6})[0-9]{11}[0-9Xx]$",
        "^ab(c[d-f]{2})$",
        "^[^x]y$",
        "^(a)$",
        "^(?:ab){2}c$",
        "^-([0-9])-$",
    ];

    #[test]
    fn other_patterns_use_the_regex() {
        let known = PATTERNS.map(|pattern| FixedPattern::of(pattern).is_some());
        assert_eq!(known, [true, true, false, true, true, true], "all but ASCII");
        for other in
            ["[0-9]{6}", "^[0-9]{6}", "^[0-9]{1,6}$", "^(a|bc)$", r"^\d$", "^(a)(b)$", "^ä$", "(?i)^a$"]
        {
            let is_fixed = FixedPattern::of(other).is_some();
            assert_eq!(is_fixed, other == "(?i)^a$", "{other}");
        }
    }

    proptest! {
        #[test]
        fn fixed_pattern_equals_the_regex(text in "[0-9abcdefXxy-]{0,4}|[0-9]{17}[0-9Xxa]|ab[a-d][d-g]{2}|-[0-9a]-|ababc?|.{0,3}") {
            for pattern in PATTERNS {
                let Some(fixed) = FixedPattern::of(pattern) else { continue };
                let found = Regex::new(pattern).unwrap().captures(&text).and_then(|found| found.get(found.len() - 1).map(|part| (part.start(), part.end())));
                prop_assert_eq!(fixed.capture(&text), found, "{}", pattern);
            }
        }
    }
}
