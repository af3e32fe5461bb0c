//! Baselines: thresholds derived from the expected count.

use serde::{Deserialize, Serialize};

/// How the expected count is computed, and which multiple of it is the threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaselinePlan {
    /// Source of the expected count: the group's own days or its peers'.
    pub of: BaselineOf,
    /// Number of past days to use.
    pub over_days: u32,
    /// Quantile of a group's days that is its expected count.
    #[serde(default = "median")]
    pub quantile: f64,
    /// Threshold as a multiple of the expected count.
    pub factor: f64,
    /// Threshold as a multiple of the peers' expected count, for a group without enough days of its own.
    pub stranger_factor: f64,
    /// Field that names a group's peer group; without it, all groups are peers.
    #[serde(default)]
    pub peers: Option<String>,
    /// Minimum number of days for a group's own expected count.
    pub least_days: u32,
    /// Minimum number of active peers per day for a peer baseline.
    pub least_peers: u32,
    /// Threshold while nothing is expected; without it, the rule does not fire then.
    #[serde(default)]
    pub cold: Option<u64>,
}

/// Source of the expected count: the group's own days or its peers'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaselineOf {
    /// The group's own days; its peers' while there are too few.
    Own,
    /// Its peers' days.
    Peers,
    /// Both: the group's ratio to its peers, times the peers' current count.
    Both,
}

fn median() -> f64 {
    0.5
}
