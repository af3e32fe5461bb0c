//! Plan: rules and mapping in compiled form, the engine's only configuration.
//!
//! A plan is JSON, so that it can be printed, compared and hashed. Python compiles Sigma rules into it; the engine
//! validates it again.

mod baseline;
mod condition;
mod derivation;
mod error;
mod identity;
mod measure;
mod novelty;
mod number;
mod rule;

pub use baseline::{BaselineOf, BaselinePlan};
pub use condition::{Bounds, Condition, MatchPosition, PatternPart, Test};
pub use derivation::{Derivation, DerivationMethod, TimePart};
pub use error::{PlanError, PlanErrorKind};
pub use identity::{Actions, CanonicalAction, Domain, Identities, IdentityForm, LetterCase, Separators};
pub use measure::{MeasurePlan, Way};
pub use novelty::NoveltyPlan;
pub use number::Decimal;
pub use rule::{Branch, RulePlan};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything the engine needs to start.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Canonical field → its sources; the first that is present wins.
    pub mapping: BTreeMap<String, Vec<Source>>,
    /// Derived field → its derivation. Takes precedence over the mapping.
    #[serde(default)]
    pub derived: BTreeMap<String, Derivation>,
    /// Fields whose values identify somebody or something, and how they are normalised.
    #[serde(default)]
    pub identities: Identities,
    /// Words of the field `action` and what they mean. With an empty map, actions are as written; otherwise an event
    /// without an action is a read, and one with another word is `other`.
    #[serde(default)]
    pub actions: Actions,
    /// Time zone of days and hours, by its IANA name.
    #[serde(default = "default_zone")]
    pub time_zone: String,
    /// Rules to evaluate.
    pub rules: Vec<RulePlan>,
    /// How late an event may arrive without changing the findings.
    #[serde(default = "default_lateness")]
    pub allowed_lateness_ms: u64,
    /// Events before this epoch second are rejected (default 2000-01-01).
    #[serde(default = "default_earliest")]
    pub earliest_s: i64,
    /// How far ahead of the caller's clock an event may be.
    #[serde(default = "default_skew")]
    pub max_future_skew_ms: u64,
    /// Delay behind the watermark after which rules on problems see an event as late, in addition to its count.
    #[serde(default = "default_late_after")]
    pub late_after_ms: u64,
    /// Maximum record length, in bytes.
    #[serde(default = "default_record_bytes")]
    pub max_record_bytes: usize,
    /// Fingerprint key as 32 hexadecimal digits. Engines that share groups need the same key; without it, a random
    /// key is used.
    #[serde(default)]
    pub fingerprint_key: Option<String>,
    /// Rules that other engines count, from events that this engine forwards.
    #[serde(default)]
    pub repartition: Option<Repartition>,
    /// Partition that this engine counts, from events that other engines forward.
    #[serde(default, rename = "share")]
    pub partition: Option<Partition>,
    /// Whether every event is recorded for the history ([`crate::Recording`]).
    #[serde(default)]
    pub history: bool,
}

/// Rules whose groups other engines count.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repartition {
    /// The rules.
    pub rules: Vec<RulePlan>,
    /// Number of partitions.
    pub partitions: u32,
}

/// One of the partitions that groups are divided into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// Index, from 0.
    #[serde(rename = "partition")]
    pub index: u32,
    /// Number of partitions.
    pub of: u32,
}

fn default_zone() -> String {
    "UTC".to_owned()
}
fn default_lateness() -> u64 {
    10_000
}
fn default_earliest() -> i64 {
    946_684_800
}
fn default_skew() -> u64 {
    600_000
}
fn default_late_after() -> u64 {
    900_000
}
fn default_record_bytes() -> usize {
    16 << 20
}

/// Source of a canonical field: a dotted path, or `"=text"` for a constant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String")]
pub enum Source {
    /// A dotted path, parsed when the engine starts.
    Path(String),
    /// The same text for every event.
    Constant(String),
}

impl From<String> for Source {
    fn from(text: String) -> Self {
        match text.strip_prefix('=') {
            Some(constant) => Self::Constant(constant.to_owned()),
            None => Self::Path(text),
        }
    }
}

impl Plan {
    /// Reads a plan from JSON.
    ///
    /// # Errors
    /// [`PlanErrorKind::Schema`] if the text is not a plan.
    pub fn from_json(text: &str) -> Result<Self, PlanError> {
        serde_json::from_str(text).map_err(|error| {
            PlanError::new(PlanErrorKind::Schema, format!("the plan is not readable: {error}"))
        })
    }

    /// The fingerprint key, if the plan sets one.
    pub(crate) fn key(&self) -> Result<Option<[u8; 16]>, PlanError> {
        let Some(digits) = &self.fingerprint_key else { return Ok(None) };
        let number = u128::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 32);
        let malformed =
            || PlanError::new(PlanErrorKind::Key, "the fingerprint key must be 32 hexadecimal digits");
        number.map(|number| Some(number.to_be_bytes())).ok_or_else(malformed)
    }
}

impl Repartition {
    /// Checks what the schema does not express.
    pub(crate) fn check(&self) -> Result<(), PlanError> {
        if self.partitions > 0 { Ok(()) } else { Err(Partition { index: 0, of: 0 }.not_found()) }
    }
}

impl Partition {
    /// Checks what the schema does not express.
    pub(crate) fn check(self) -> Result<(), PlanError> {
        let Self { index, of } = self;
        if index < of { Ok(()) } else { Err(self.not_found()) }
    }

    fn not_found(self) -> PlanError {
        let Self { index, of } = self;
        PlanError::new(PlanErrorKind::Partition, format!("there is no partition {index} of {of}"))
    }
}
