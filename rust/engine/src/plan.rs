//! The compiled form of rules and mapping: what the engine is told to do, as data.
//!
//! A plan is JSON so that it can be printed, compared and hashed. Python compiles Sigma into it; the engine
//! checks it again and trusts nobody.

use crate::derive::{Derivation, TimePart};
use crate::level::Scale;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use thiserror::Error;

/// Everything the engine needs to start.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Canonical field → where it comes from, first present source wins.
    pub mapping: BTreeMap<String, Vec<Source>>,
    /// Field → how it is worked out from others. Such a name goes before the mapping's.
    #[serde(default)]
    pub derived: BTreeMap<String, Derivation>,
    /// In which days and hours are meant, by its name in the IANA database.
    #[serde(default = "default_zone")]
    pub time_zone: String,
    /// The rules that count.
    pub rules: Vec<RulePlan>,
    /// How far out of order an event may come and still give the sorted stream's findings.
    #[serde(default = "default_lateness")]
    pub allowed_lateness_ms: u64,
    /// Events before this epoch second are rejected (default 2000-01-01).
    #[serde(default = "default_earliest")]
    pub earliest_s: i64,
    /// How far ahead of the caller's clock an event may lie.
    #[serde(default = "default_skew")]
    pub max_future_skew_ms: u64,
    /// Longest record accepted, in bytes.
    #[serde(default = "default_record_bytes")]
    pub max_record_bytes: usize,
    /// The fingerprints' key as 32 hexadecimal digits, where engines that share the groups among them must agree on it.
    #[serde(default)]
    pub fingerprint_key: Option<String>,
    /// What is counted by other engines, which have their events from this one.
    #[serde(default)]
    pub repartition: Option<Repartition>,
    /// The share of the groups that is counted here, of events that other engines repartitioned.
    #[serde(default)]
    pub share: Option<Share>,
    /// Whether every event is kept for the history ([`crate::Recording`]).
    #[serde(default)]
    pub history: bool,
}

/// Rules whose groups are counted elsewhere.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repartition {
    /// The rules, whose events are handed on.
    pub rules: Vec<RulePlan>,
    /// How many shares the groups fall into.
    pub partitions: u32,
}

/// A share of all groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Which, counted from 0.
    pub partition: u32,
    /// Of how many.
    pub of: u32,
}

fn median() -> f64 {
    0.5
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
fn default_record_bytes() -> usize {
    1 << 20
}

/// Where a canonical field comes from: a dotted path, or `"=text"` for a constant.
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

/// One counting rule.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulePlan {
    /// Stable id, part of every finding's id.
    pub id: String,
    /// Which events it counts.
    pub when: Condition,
    /// The fields whose values make a group. Empty: all events are one group.
    pub group_by: Vec<String>,
    /// Where the conditions that `when` is any of do not all group by the same fields: the fields of each, which go by the
    /// names of `group_by`. Where `when` has openings, each is a branch.
    #[serde(default)]
    pub branches: Vec<Branch>,
    /// Count distinct values of this field; without it, count events.
    #[serde(default)]
    pub distinct: Option<String>,
    /// Count which of these conditions are met, each once, instead; `when` is any of them.
    #[serde(default)]
    pub parts: Vec<Condition>,
    /// Hold this against the condition, instead of a count.
    #[serde(default)]
    pub measure: Option<MeasurePlan>,
    /// The window's length.
    pub timespan_ms: u64,
    /// The pane's length; divides the timespan.
    pub resolution_ms: u64,
    /// Runs no further apart than this are one finding.
    pub keep_open_ms: u64,
    /// The condition on the count, or on what is measured.
    pub holds: Holds<f64>,
    /// Has only some of these events count.
    #[serde(default)]
    pub sieve: Option<SievePlan>,
    /// Holds each group's count against what is usual, if that is more than `holds` says.
    #[serde(default)]
    pub baseline: Option<BaselinePlan>,
    /// Nobody is told of its findings but rules that count them.
    #[serde(default)]
    pub silent: bool,
    /// About how many findings may be open at once. Beyond, only groups that reach twice the threshold open one, as many
    /// again; then those that reach four times, and so on. Without it, all do.
    #[serde(default)]
    pub most_open: Option<NonZeroUsize>,
}

/// Events of one condition and the groups they are in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Branch {
    /// Which events.
    pub when: Condition,
    /// The fields whose values make a group; of an opening, those its own rule groups by.
    pub group_by: Vec<String>,
    /// What an opening is worth, for a measure of `points`.
    #[serde(default)]
    pub points: f64,
}

/// Which of a group's events count, by what it did on days before yesterday.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SievePlan {
    /// Those with values of a field that the group has not had. Of that field no others are counted.
    New {
        /// The field.
        field: String,
        /// Not had within so many days.
        over_days: u32,
        /// For a group that has been known, without a pause of more than `over_days`, for so many.
        after_days: u32,
    },
    /// Those of a group that was silent for more than so many days, and known before.
    Waking {
        /// So many days.
        silent_days: u32,
    },
}

impl SievePlan {
    /// The field whose values may be new.
    pub(crate) fn field(&self) -> Option<&str> {
        match self {
            Self::New { field, .. } => Some(field),
            Self::Waking { .. } => None,
        }
    }

    fn is_sound(&self) -> bool {
        let days = 2..=400;
        match self {
            Self::New { over_days, after_days, .. } => {
                days.contains(over_days) && (2..=*over_days).contains(after_days)
            }
            Self::Waking { silent_days } => days.contains(silent_days),
        }
    }
}

/// What is usual, and how much more is too much.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaselinePlan {
    /// For whom it is usual.
    pub of: BaselineOf,
    /// How many days back it is read from.
    pub over_days: u32,
    /// Which quantile of its days is usual for a group.
    #[serde(default = "median")]
    pub quantile: f64,
    /// How many times as much as usual holds.
    pub factor: f64,
    /// How many times as much as is usual among its peers holds for a group whose own usual is not known yet.
    pub stranger_factor: f64,
    /// The field that says whose peers a group is among; without it, all groups are peers.
    #[serde(default)]
    pub peers: Option<String>,
    /// With fewer days a group has no usual of its own.
    pub least_days: u32,
    /// With fewer of them on a day, peers have none.
    pub least_peers: u32,
    /// What a count is held against while nothing is known; without it, nothing holds.
    #[serde(default)]
    pub cold: Option<u64>,
}

/// For whom something is usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaselineOf {
    /// The group, by its own days; its peers while it has too few.
    Own,
    /// Its peers.
    Peers,
    /// The group beside its peers: as many times as much as they do.
    Both,
}

/// What is measured of the events in a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum MeasurePlan {
    /// The sum of a field's numbers. What is below zero adds nothing.
    Sum {
        /// The field.
        field: String,
    },
    /// The mean of a field's numbers.
    Mean {
        /// The field.
        field: String,
    },
    /// A quantile of a field's numbers.
    Quantile {
        /// The field.
        field: String,
        /// Which, 0 to 1.
        quantile: f64,
    },
    /// How many of the rule's `parts` were met one after another in their order.
    InOrder,
    /// 1 where the rule's `parts` were met in one of these ways.
    Pattern {
        /// The ways.
        ways: Vec<Way>,
    },
}

/// A way to meet conditions, which are named by their places among a rule's parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Way {
    /// Those that were met.
    pub met: Vec<usize>,
    /// Whether one after another.
    pub in_order: bool,
    /// Those that were not.
    pub absent: Vec<usize>,
}

impl MeasurePlan {
    /// The field whose numbers are measured.
    pub(crate) fn field(&self) -> Option<&str> {
        match self {
            Self::Sum { field } | Self::Mean { field } | Self::Quantile { field, .. } => Some(field),
            Self::InOrder | Self::Pattern { .. } => None,
        }
    }

    /// Whether it is of amounts, rather than of conditions.
    pub(crate) fn has_amounts(&self) -> bool {
        self.field().is_some()
    }

    /// Whether more events can only make more of it.
    fn grows(&self) -> bool {
        match self {
            Self::Sum { .. } | Self::InOrder => true,
            Self::Mean { .. } | Self::Quantile { .. } => false,
            Self::Pattern { ways } => ways.iter().all(|way| way.absent.is_empty()),
        }
    }

    /// Checks what the schema cannot say; `parts` are so many.
    fn check(&self, parts: usize) -> Result<(), &'static str> {
        if self.has_amounts() == (parts > 0) || parts > 64 {
            return Err("amounts are of a field, and an order is of 1 to 64 conditions");
        }
        match self {
            Self::Quantile { quantile, .. } if !(0.0..=1.0).contains(quantile) => {
                Err("a quantile is between 0 and 1")
            }
            Self::Pattern { ways }
                if ways.iter().any(|way| way.met.iter().chain(&way.absent).any(|&part| part >= parts)) =>
            {
                Err("a pattern is of the rule's own parts")
            }
            _ => Ok(()),
        }
    }
}

/// Bounds on a count, or on what is measured; all that are given must hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Holds<N = u64> {
    /// At least.
    pub gte: Option<N>,
    /// More than.
    pub gt: Option<N>,
    /// At most.
    pub lte: Option<N>,
    /// Less than.
    pub lt: Option<N>,
    /// Exactly.
    pub eq: Option<N>,
    /// Anything but.
    pub neq: Option<N>,
}

impl Holds<f64> {
    fn bounds(&self) -> impl Iterator<Item = f64> {
        [self.gte, self.gt, self.lte, self.lt, self.eq, self.neq].into_iter().flatten()
    }

    fn levels(&self, scale: Scale) -> Holds {
        let level = |bound: Option<f64>| bound.map(|bound| scale.level(bound));
        Holds {
            gte: level(self.gte),
            gt: level(self.gt),
            lte: level(self.lte),
            lt: level(self.lt),
            eq: level(self.eq),
            neq: level(self.neq),
        }
    }
}

impl Holds {
    /// Whether `count` meets every bound. A group exists only while it has an event in its window, so 0
    /// never holds.
    pub fn test(&self, count: u64) -> bool {
        count > 0
            && self.gte.is_none_or(|n| count >= n)
            && self.gt.is_none_or(|n| count > n)
            && self.lte.is_none_or(|n| count <= n)
            && self.lt.is_none_or(|n| count < n)
            && self.eq.is_none_or(|n| count == n)
            && self.neq.is_none_or(|n| count != n)
    }

    /// The least count that holds, where more events can only keep it holding. `None` where more could end
    /// it; such a condition is judged when the watermark passes.
    pub fn floor(&self) -> Option<u64> {
        if self.lte.is_some() || self.lt.is_some() || self.eq.is_some() || self.neq.is_some() {
            return None;
        }
        let from_gt = self.gt.map_or(1, |n| n.saturating_add(1));
        Some(self.gte.unwrap_or(1).max(from_gt).max(1))
    }

    /// The number shown as a finding's threshold: the bound nearest to firing.
    pub fn threshold(&self) -> u64 {
        self.gte.or(self.gt).or(self.eq).or(self.lte).or(self.lt).or(self.neq).unwrap_or(1)
    }
}

/// A condition over one event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Every part holds; true when there is none.
    All(Vec<Condition>),
    /// Some part holds; false when there is none.
    Any(Vec<Condition>),
    /// The part does not hold.
    Not(Box<Condition>),
    /// Not an event of the source: that a finding of this rule opens, at the time it opens, once the watermark has passed it.
    Opened(String),
    /// A test of one field. A list passes when any element does.
    Field {
        /// Canonical or dotted name.
        name: String,
        /// What is asked of it.
        test: Test,
    },
}

impl Condition {
    /// Names the fields it asks for.
    fn for_each_field<'c>(&'c self, each: &mut impl FnMut(&'c str)) {
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
    /// Text against literal and wildcard parts, whole value.
    Text {
        /// The pattern in order.
        parts: Vec<Part>,
        /// Whether case matters; in Sigma it does not unless asked.
        #[serde(default)]
        cased: bool,
    },
    /// A regular expression found anywhere in the value.
    Regex {
        /// In the syntax of Rust's regex crate.
        pattern: String,
        /// `i`.
        #[serde(default)]
        ignore_case: bool,
        /// `m`.
        #[serde(default)]
        multi_line: bool,
        /// `s`.
        #[serde(default)]
        dot_all: bool,
    },
    /// Another field's value.
    Same {
        /// The other field.
        other: String,
        /// Where in the value it stands.
        #[serde(default)]
        place: Place,
    },
    /// A part of a time, in the plan's time zone.
    Part(TimePart, i64),
    /// An address inside a network.
    Cidr(String),
    /// The field is there (or is not).
    Exists(bool),
    /// Absent or null.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number equal in value.
    Number(f64),
    /// A number below.
    Lt(f64),
    /// A number below or equal.
    Lte(f64),
    /// A number above.
    Gt(f64),
    /// A number above or equal.
    Gte(f64),
}

/// Where one text stands in another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// It is the whole.
    #[default]
    Whole,
    /// At its start.
    Start,
    /// At its end.
    End,
    /// Anywhere.
    Anywhere,
}

/// A part of a text pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// These characters.
    Literal(String),
    /// `*`: any run of characters, none included.
    AnyRun,
    /// `?`: one character.
    AnyOne,
}

/// Why a plan cannot be run.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    /// Not the plan's schema.
    #[error("the plan is not readable: {0}")]
    Schema(String),
    /// A path of the mapping or of a rule's field.
    #[error("field '{field}': {problem}")]
    Path {
        /// The field.
        field: String,
        /// What is wrong.
        problem: String,
    },
    /// The mapping names no source for a field every event needs.
    #[error("the mapping has no source for '{0}'")]
    Unmapped(&'static str),
    /// A derived field that cannot be worked out.
    #[error("derived field '{field}': {problem}")]
    Derived {
        /// The field.
        field: String,
        /// What is wrong.
        problem: String,
    },
    /// A time zone there is not.
    #[error("{0}")]
    Zone(String),
    /// A fingerprint key that is none.
    #[error("the fingerprint key must be 32 hexadecimal digits")]
    Key,
    /// Groups in no share, or in a share there is not.
    #[error("partition {partition} of {of}")]
    Share {
        /// The partition.
        partition: u32,
        /// Of so many.
        of: u32,
    },
    /// No threads to run it on.
    #[error("the threads the engine was to run on could not be started: {0}")]
    Threads(String),
    /// A rule's own fault.
    #[error("rule '{rule}': {problem}")]
    Rule {
        /// The rule's id.
        rule: String,
        /// What is wrong.
        problem: String,
    },
}

impl Plan {
    /// Reads a plan from JSON.
    ///
    /// # Errors
    /// [`PlanError::Schema`] where the text is no plan.
    pub fn from_json(text: &str) -> Result<Self, PlanError> {
        serde_json::from_str(text).map_err(|error| PlanError::Schema(error.to_string()))
    }

    /// The fingerprints' key, where the plan says which.
    pub(crate) fn key(&self) -> Result<Option<[u8; 16]>, PlanError> {
        let Some(digits) = &self.fingerprint_key else { return Ok(None) };
        let number = u128::from_str_radix(digits, 16).map_err(|_| PlanError::Key)?;
        if digits.len() == 32 { Ok(Some(number.to_be_bytes())) } else { Err(PlanError::Key) }
    }
}

impl Repartition {
    /// Checks what the schema cannot say.
    pub(crate) fn check(&self) -> Result<(), PlanError> {
        if self.partitions == 0 { Err(PlanError::Share { partition: 0, of: 0 }) } else { Ok(()) }
    }
}

impl Share {
    /// Checks what the schema cannot say.
    pub(crate) fn check(self) -> Result<(), PlanError> {
        let Self { partition, of } = self;
        if partition < of { Ok(()) } else { Err(PlanError::Share { partition, of }) }
    }
}

impl RulePlan {
    /// What the levels it is held against stand for.
    pub(crate) fn scale(&self) -> Scale {
        let is_real = self.measure.as_ref().is_some_and(MeasurePlan::has_amounts);
        if is_real { Scale::Reals } else { Scale::Counts }
    }

    /// Its condition, on levels.
    pub(crate) fn on_levels(&self) -> Holds {
        self.holds.levels(self.scale())
    }

    /// The least level that holds, where more events can only keep it holding. `None` where they could end it; such a
    /// condition is judged when the watermark passes.
    pub(crate) fn floor(&self) -> Option<u64> {
        self.on_levels().floor().filter(|_| self.measure.as_ref().is_none_or(MeasurePlan::grows))
    }

    /// The field of which it counts or measures the values.
    pub(crate) fn counted_field(&self) -> Option<&str> {
        self.distinct.as_deref().or_else(|| self.measure.as_ref()?.field())
    }

    /// The ids of the rules whose openings it counts.
    pub(crate) fn follows(&self) -> impl Iterator<Item = &str> {
        self.branches.iter().filter_map(|branch| match &branch.when {
            Condition::Opened(rule) => Some(rule.as_str()),
            _ => None,
        })
    }

    /// The fields by which it is decided which events it counts, and in which groups.
    pub(crate) fn deciding_fields(&self) -> BTreeSet<&str> {
        let peers = self.baseline.iter().filter_map(|baseline| baseline.peers.as_ref());
        let mut fields: BTreeSet<&str> = peers.map(String::as_str).collect();
        if self.branches.is_empty() {
            fields.extend(self.group_by.iter().map(String::as_str));
        }
        let events = self.branches.iter().filter(|branch| !matches!(branch.when, Condition::Opened(_)));
        fields.extend(events.flat_map(|branch| &branch.group_by).map(String::as_str));
        fields.extend(self.sieve.as_ref().and_then(SievePlan::field));
        for condition in self.parts.iter().chain([&self.when]) {
            condition.for_each_field(&mut |name| {
                fields.insert(name);
            });
        }
        fields
    }

    /// Checks what the schema cannot say.
    pub(crate) fn check(&self) -> Result<(), PlanError> {
        let fault = |problem: &str| PlanError::Rule { rule: self.id.clone(), problem: problem.to_owned() };
        if self.resolution_ms < 1000 {
            return Err(fault("resolution must be at least 1 s"));
        }
        if self.sieve.as_ref().is_some_and(|sieve| !sieve.is_sound()) {
            return Err(fault(
                "days that were before are from 2 to 400, and a group is known after no more of them",
            ));
        }
        if self.distinct.is_some() && !(self.parts.is_empty() && self.measure.is_none()) {
            return Err(fault("values of a field and conditions are not counted together"));
        }
        if self.branches.iter().any(|branch| branch.group_by.len() != self.group_by.len()) {
            return Err(fault("every branch has as many fields as the groups have names"));
        }
        if !self.branches.is_empty() && !self.parts.is_empty() && self.branches.len() != self.parts.len() {
            return Err(fault("every part is a branch, where there are branches"));
        }
        if self.branches.len() > 64 {
            return Err(fault("there are more than 64 branches"));
        }
        let follows = self.follows().next().is_some();
        if follows && (self.baseline.is_some() || self.sieve.is_some()) {
            return Err(fault("openings of findings have neither a baseline nor a sieve"));
        }
        if let Some(measure) = &self.measure {
            measure.check(self.parts.len()).map_err(fault)?;
            if self.baseline.is_some() {
                return Err(fault("a baseline is for counts"));
            }
        }
        let is_sound = |bound: f64| match self.scale() {
            Scale::Counts => bound >= 0.0 && bound.fract() == 0.0,
            Scale::Reals => bound.is_finite(),
        };
        if !self.holds.bounds().all(is_sound) {
            return Err(fault("a count's bound is a whole number, any other a finite one"));
        }
        if let Some(baseline) = &self.baseline {
            if self.floor().is_none() {
                return Err(fault("a baseline raises a threshold; wanted gte or gt"));
            }
            if !(1..=400).contains(&baseline.over_days)
                || baseline.least_days == 0
                || baseline.least_peers == 0
            {
                return Err(fault(
                    "a baseline is read from 1 to 400 days, and wants a day and a peer at least",
                ));
            }
            if !(0.0..=1.0).contains(&baseline.quantile) {
                return Err(fault("a baseline's quantile is between 0 and 1"));
            }
            for factor in [baseline.factor, baseline.stranger_factor] {
                if !factor.is_finite() || factor <= 0.0 {
                    return Err(fault("a baseline's factors are positive numbers"));
                }
            }
        }
        if self.timespan_ms == 0 || !self.timespan_ms.is_multiple_of(self.resolution_ms) {
            return Err(fault("resolution must divide timespan"));
        }
        if self.timespan_ms / self.resolution_ms > 1_000_000 {
            return Err(fault("timespan has more than 1,000,000 panes; choose a coarser resolution"));
        }
        if self.keep_open_ms / self.resolution_ms > u64::from(u32::MAX / 4) {
            return Err(fault("keep_open is too long"));
        }
        Ok(())
    }
}
