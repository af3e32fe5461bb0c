//! Why a plan cannot be run.

use std::fmt;
use thiserror::Error;

/// The part of a plan that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanErrorKind {
    /// The JSON does not have the plan's schema.
    Schema,
    /// The path of a field cannot be parsed.
    Path,
    /// The mapping has no source for a field that every event needs.
    Unmapped,
    /// A derived field cannot be computed.
    Derived,
    /// The time zone is unknown.
    TimeZone,
    /// The fingerprint key is malformed.
    Key,
    /// The partition does not exist.
    Partition,
    /// The threads cannot be started.
    Threads,
    /// A rule is invalid.
    Rule,
}

impl PlanErrorKind {
    /// The stable name, for callers in other languages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Schema => "schema",
            Self::Path => "path",
            Self::Unmapped => "unmapped",
            Self::Derived => "derived",
            Self::TimeZone => "time_zone",
            Self::Key => "key",
            Self::Partition => "partition",
            Self::Threads => "threads",
            Self::Rule => "rule",
        }
    }
}

/// Why a plan cannot be run: where the fault is, and what it is.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[error("{}{problem}", Location(self))]
pub struct PlanError {
    /// The part of the plan.
    pub kind: PlanErrorKind,
    /// Id of the rule, if the fault is in one.
    pub rule: Option<String>,
    /// Name of the field, if the fault is in one.
    pub field: Option<String>,
    /// The fault, without its location.
    pub problem: String,
}

impl PlanError {
    /// A fault that is in no rule and no field.
    pub(crate) fn new(kind: PlanErrorKind, problem: impl Into<String>) -> Self {
        Self { kind, rule: None, field: None, problem: problem.into() }
    }

    /// A fault of one field of the mapping.
    pub(crate) fn in_field(kind: PlanErrorKind, field: &str, problem: impl Into<String>) -> Self {
        Self { field: Some(field.to_owned()), ..Self::new(kind, problem) }
    }

    /// A fault of one rule.
    pub(crate) fn in_rule(rule: &str, problem: impl Into<String>) -> Self {
        Self { rule: Some(rule.to_owned()), ..Self::new(PlanErrorKind::Rule, problem) }
    }

    /// A fault of one field that a rule uses.
    pub(crate) fn in_rule_field(rule: &str, field: &str, problem: impl Into<String>) -> Self {
        Self { field: Some(field.to_owned()), ..Self::in_rule(rule, problem) }
    }
}

/// The start of a message: rule and field.
struct Location<'a>(&'a PlanError);

impl fmt::Display for Location<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PlanError { kind, rule, field, .. } = self.0;
        if let Some(rule) = rule {
            write!(f, "rule '{rule}': ")?;
        }
        match (field, kind) {
            (None, _) | (_, PlanErrorKind::Unmapped) => Ok(()),
            (Some(field), PlanErrorKind::Derived) => write!(f, "derived field '{field}': "),
            (Some(field), _) => write!(f, "field '{field}': "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_has_the_location_first() {
        for (error, message) in [
            (PlanError::new(PlanErrorKind::Key, "too short"), "too short"),
            (
                PlanError::in_field(PlanErrorKind::Derived, "region", "no column"),
                "derived field 'region': no column",
            ),
            (PlanError::in_field(PlanErrorKind::Path, "x", "empty key"), "field 'x': empty key"),
            (PlanError::in_rule("r7", "no window"), "rule 'r7': no window"),
            (PlanError::in_rule_field("r7", "x", "bad pattern"), "rule 'r7': field 'x': bad pattern"),
        ] {
            assert_eq!(error.to_string(), message);
        }
    }
}
