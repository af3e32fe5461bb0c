//! Derived fields: fields computed from other fields.

use serde::{Deserialize, Serialize};

/// How a field is computed from others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Derivation {
    /// Source fields: one, unless the method takes several.
    pub from: Vec<String>,
    /// The method.
    pub by: DerivationMethod,
}

/// Methods to derive a field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum DerivationMethod {
    /// The characters from one index up to another; negative indices count from the end, as in Python slices.
    Slice(i32, Option<i32>),
    /// The first group of a regular expression, or the whole match if it has no group.
    Capture(String),
    /// The parts of a text between any of these characters, without spaces around them and without empty ones.
    Split(String),
    /// The interval between ascending bounds that contains a number: `<10`, `10..100`, `>=100`.
    Buckets(Vec<f64>),
    /// A part of a time in the plan's time zone.
    Part(TimePart),
    /// Whether a regular expression matches any text or number in the whole record. Uses no source field.
    Anywhere(String),
    /// The values of several fields as one JSON list.
    Together,
    /// The values of an identity field as written.
    Written,
    /// Whether a text in other letters looks like one in ASCII letters (Unicode TR 39, skeleton).
    Confusable,
    /// The value next to a key in a look-up table, or whether the table contains the key if no column is named. The
    /// source fields make the key.
    Table {
        /// Name of the table.
        name: String,
        /// Name of the column.
        #[serde(default)]
        value: Option<String>,
    },
}

/// A part of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimePart {
    /// 0 to 59.
    Minute,
    /// 0 to 23.
    Hour,
    /// Day of the month, 1 to 31.
    Day,
    /// 1 for Monday to 7 for Sunday.
    Weekday,
    /// ISO 8601 week, 1 to 53.
    Week,
    /// 1 to 12.
    Month,
    /// For example 2026.
    Year,
    /// For example 2026-01-05.
    Date,
}
