//! Novelty filters: rules that count only events that are new for their group.

use serde::{Deserialize, Serialize};

/// Which of a group's events count, depending on what the group did on days before yesterday.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum NoveltyPlan {
    /// Events with values of a field that are new for the group. Only the new values are counted.
    New {
        /// The field.
        field: String,
        /// A value is new if the group has not had it for this many days.
        over_days: u32,
        /// The group must have been active for this many days, without a pause of more than `over_days`.
        after_days: u32,
    },
    /// Events of a known group that was silent for more than `silent_days`.
    #[serde(rename = "waking")]
    Dormant {
        /// Number of days.
        silent_days: u32,
    },
}

impl NoveltyPlan {
    /// Field whose values can be new.
    pub(crate) fn field(&self) -> Option<&str> {
        match self {
            Self::New { field, .. } => Some(field),
            Self::Dormant { .. } => None,
        }
    }

    pub(super) fn is_sound(&self) -> bool {
        let days = 2..=400;
        match self {
            Self::New { over_days, after_days, .. } => {
                days.contains(over_days) && (2..=*over_days).contains(after_days)
            }
            Self::Dormant { silent_days } => days.contains(silent_days),
        }
    }
}
