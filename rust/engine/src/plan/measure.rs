//! Measures: values computed from a window's events that a rule evaluates instead of a count.

use serde::{Deserialize, Serialize};

/// The measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum MeasurePlan {
    /// Sum of a field's numbers. Negative numbers count as zero.
    Sum {
        /// The field.
        field: String,
    },
    /// Mean of a field's numbers.
    Mean {
        /// The field.
        field: String,
    },
    /// Quantile of a field's numbers.
    Quantile {
        /// The field.
        field: String,
        /// The quantile, 0 to 1.
        quantile: f64,
    },
    /// Number of the rule's `parts` that were met one after another, in their order.
    InOrder,
    /// 1 if the rule's `parts` were met in one of these ways, otherwise 0.
    Pattern {
        /// The ways.
        ways: Vec<Way>,
    },
}

/// One way to match a pattern; conditions are given by their index among the rule's parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Way {
    /// Conditions that must be met.
    pub met: Vec<usize>,
    /// Whether they must be met in this order.
    pub in_order: bool,
    /// Conditions that must not be met.
    pub absent: Vec<usize>,
}

impl MeasurePlan {
    /// Field whose numbers are measured.
    pub(crate) fn field(&self) -> Option<&str> {
        match self {
            Self::Sum { field } | Self::Mean { field } | Self::Quantile { field, .. } => Some(field),
            Self::InOrder | Self::Pattern { .. } => None,
        }
    }

    /// Whether amounts are measured, rather than conditions.
    pub(crate) fn has_amounts(&self) -> bool {
        self.field().is_some()
    }

    /// Whether more events can only raise the measure.
    pub(super) fn grows(&self) -> bool {
        match self {
            Self::Sum { .. } | Self::InOrder => true,
            Self::Mean { .. } | Self::Quantile { .. } => false,
            Self::Pattern { ways } => ways.iter().all(|way| way.absent.is_empty()),
        }
    }

    /// Checks what the schema does not express; `parts` is the number of the rule's parts.
    pub(super) fn check(&self, parts: usize) -> Result<(), &'static str> {
        if self.has_amounts() == (parts > 0) || parts > 64 {
            return Err("a measure of amounts needs a field, a sequence 1 to 64 conditions");
        }
        match self {
            Self::Quantile { quantile, .. } if !(0.0..=1.0).contains(quantile) => {
                Err("a quantile must be between 0 and 1")
            }
            Self::Pattern { ways }
                if ways.iter().any(|way| way.met.iter().chain(&way.absent).any(|&part| part >= parts)) =>
            {
                Err("a pattern must use the rule's own parts")
            }
            _ => Ok(()),
        }
    }
}
