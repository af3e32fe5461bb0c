//! Conditions over one event, and bounds on a count.

use super::derivation::TimePart;
use super::number::Decimal;
use crate::foundation::ordered::Scale;
use serde::{Deserialize, Serialize};

/// A condition over one event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// All parts hold; true if there are none.
    All(Vec<Condition>),
    /// At least one part holds; false if there are none.
    Any(Vec<Condition>),
    /// The part does not hold.
    Not(Box<Condition>),
    /// A finding of this rule opens. Its time is the opening time; it arrives once the watermark has passed it.
    Opened(String),
    /// A test of one field. A list passes if one of its elements does.
    Field {
        /// Canonical or dotted name.
        name: String,
        /// The test.
        test: Test,
    },
}

impl Condition {
    /// Whether the condition uses a field.
    pub(crate) fn uses(&self, field: &str) -> bool {
        let mut is_used = false;
        self.for_each_field(&mut |name| is_used |= name == field);
        is_used
    }

    /// Calls `each` for every field the condition uses.
    pub(super) fn for_each_field<'c>(&'c self, each: &mut impl FnMut(&'c str)) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.for_each_field(each)),
            Self::Not(part) => part.for_each_field(each),
            Self::Opened(_) => {}
            Self::Field { name, test } => {
                each(name);
                if let Test::Same { other, .. } = test {
                    each(other);
                }
            }
        }
    }
}

/// A test of one value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Test {
    /// The whole value matches a pattern of literals and wildcards.
    Text {
        /// Parts of the pattern, in order.
        parts: Vec<PatternPart>,
        /// Whether case matters; in Sigma it does not by default.
        #[serde(default)]
        cased: bool,
    },
    /// A regular expression matches anywhere in the value.
    Regex {
        /// In the syntax of the `regex` crate.
        pattern: String,
        /// Flag `i`.
        #[serde(default)]
        ignore_case: bool,
        /// Flag `m`.
        #[serde(default)]
        multi_line: bool,
        /// Flag `s`.
        #[serde(default)]
        dot_all: bool,
    },
    /// The value contains, or equals, another field's value.
    Same {
        /// The other field.
        other: String,
        /// Position of the other value in this one.
        #[serde(default)]
        place: MatchPosition,
    },
    /// A part of a time in the plan's time zone equals a number.
    Part(TimePart, i64),
    /// An address is in a network.
    Cidr(String),
    /// The field is present (true) or absent (false).
    Exists(bool),
    /// The field is absent or null.
    Null,
    /// Equals a boolean.
    Bool(bool),
    /// Equals a number.
    Number(Decimal),
    /// Less than a number.
    Lt(Decimal),
    /// Less than or equal to a number.
    Lte(Decimal),
    /// Greater than a number.
    Gt(Decimal),
    /// Greater than or equal to a number.
    Gte(Decimal),
}

/// Position of one text in another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MatchPosition {
    /// The texts are equal.
    #[default]
    Whole,
    /// At the start.
    Start,
    /// At the end.
    End,
    /// Anywhere.
    Anywhere,
}

/// A part of a text pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PatternPart {
    /// These characters.
    Literal(String),
    /// `*`: any number of characters.
    AnyRun,
    /// `?`: one character.
    AnyOne,
}

/// Bounds on a count or measure; all that are given must hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bounds<N = u64> {
    /// At least.
    pub gte: Option<N>,
    /// More than.
    pub gt: Option<N>,
    /// At most.
    pub lte: Option<N>,
    /// Less than.
    pub lt: Option<N>,
    /// Equal to.
    pub eq: Option<N>,
    /// Not equal to.
    pub neq: Option<N>,
}

impl Bounds<f64> {
    pub(super) fn bounds(&self) -> impl Iterator<Item = f64> {
        [self.gte, self.gt, self.lte, self.lt, self.eq, self.neq].into_iter().flatten()
    }

    pub(super) fn levels(&self, scale: Scale) -> Bounds {
        let encode = |bound: Option<f64>| bound.map(|bound| scale.encode(bound));
        Bounds {
            gte: encode(self.gte),
            gt: encode(self.gt),
            lte: encode(self.lte),
            lt: encode(self.lt),
            eq: encode(self.eq),
            neq: encode(self.neq),
        }
    }
}

impl Bounds {
    /// Whether `count` is within all bounds. A group exists only while its window contains an event, so 0 is never
    /// within them.
    pub fn test(&self, count: u64) -> bool {
        count > 0
            && self.gte.is_none_or(|n| count >= n)
            && self.gt.is_none_or(|n| count > n)
            && self.lte.is_none_or(|n| count <= n)
            && self.lt.is_none_or(|n| count < n)
            && self.eq.is_none_or(|n| count == n)
            && self.neq.is_none_or(|n| count != n)
    }

    /// Smallest count within the bounds, if more events can only keep a count within them. `None` if more events can
    /// end it; such a condition is evaluated when the watermark passes the pane.
    pub fn floor(&self) -> Option<u64> {
        if self.lte.is_some() || self.lt.is_some() || self.eq.is_some() || self.neq.is_some() {
            return None;
        }
        let from_gt = self.gt.map_or(1, |n| n.saturating_add(1));
        Some(self.gte.unwrap_or(1).max(from_gt).max(1))
    }

    /// The bound shown as a finding's threshold.
    pub fn threshold(&self) -> u64 {
        self.gte.or(self.gt).or(self.eq).or(self.lte).or(self.lt).or(self.neq).unwrap_or(1)
    }
}
