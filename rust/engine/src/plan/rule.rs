//! Rules as data.

use super::baseline::BaselinePlan;
use super::condition::{Bounds, Condition};
use super::error::PlanError;
use super::identity::IdentityForm;
use super::measure::MeasurePlan;
use super::novelty::NoveltyPlan;
use crate::foundation::ordered::Scale;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::num::NonZeroUsize;

/// One rule.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulePlan {
    /// Stable id; every finding's id depends on it.
    pub id: String,
    /// Events to count.
    pub when: Condition,
    /// Fields whose values make a group. Empty: all events are one group.
    pub group_by: Vec<String>,
    /// If the alternatives in `when` group by different fields: each alternative with its own fields, which take the
    /// names of `group_by`. If `when` contains finding openings, each alternative is a branch.
    #[serde(default)]
    pub branches: Vec<Branch>,
    /// Count distinct values of this field; without it, count events.
    #[serde(default)]
    pub distinct: Option<String>,
    /// Count which of these conditions are met, each once; `when` must be any of them.
    #[serde(default)]
    pub parts: Vec<Condition>,
    /// Evaluate this measure instead of the count.
    #[serde(default)]
    pub measure: Option<MeasurePlan>,
    /// Window length.
    pub timespan_ms: u64,
    /// Pane length; must divide `timespan_ms`.
    pub resolution_ms: u64,
    /// Runs of panes at most this far apart are one finding.
    pub keep_open_ms: u64,
    /// Bounds on the count or measure.
    pub holds: Bounds<f64>,
    /// Count only events that are new for their group.
    #[serde(default, rename = "sieve")]
    pub novelty: Option<NoveltyPlan>,
    /// Compare each group's count with its expected count, if that gives a higher threshold than `holds`.
    #[serde(default)]
    pub baseline: Option<BaselinePlan>,
    /// Do not report findings; only other rules count them.
    #[serde(default)]
    pub silent: bool,
    /// Approximate limit of open findings. Beyond it, only groups with twice the threshold open one, up to the same
    /// number again; then groups with four times, and so on. Without it there is no limit.
    #[serde(default)]
    pub most_open: Option<NonZeroUsize>,
}

/// Events that meet a condition, with their own group fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Branch {
    /// Events of the branch.
    pub when: Condition,
    /// Fields that make the group; for finding openings, fields that the other rule groups by.
    pub group_by: Vec<String>,
    /// Value of an opening, for a measure of `points`.
    #[serde(default)]
    pub points: f64,
}

impl RulePlan {
    /// Normal form of the group's values at a place: that of the field, or, if alternatives group by different fields,
    /// of the first of them that is an identity, because their values are compared.
    pub(crate) fn group_form(
        &self,
        place: usize,
        identity: impl Fn(&str) -> Option<IdentityForm>,
    ) -> Option<IdentityForm> {
        let of_branches = self.branches.iter().filter_map(|branch| branch.group_by.get(place));
        self.group_by.get(place).into_iter().chain(of_branches).find_map(|name| identity(name))
    }

    /// Encoding of its counts and thresholds.
    pub(crate) fn scale(&self) -> Scale {
        let is_real = self.measure.as_ref().is_some_and(MeasurePlan::has_amounts);
        if is_real { Scale::Reals } else { Scale::Counts }
    }

    /// Its bounds, encoded.
    pub(crate) fn on_levels(&self) -> Bounds {
        self.holds.levels(self.scale())
    }

    /// Smallest encoded count within the bounds, if more events can only keep the count within them. `None` if more
    /// events can end it; such a rule is evaluated when the watermark passes the pane.
    pub(crate) fn floor(&self) -> Option<u64> {
        self.on_levels().floor().filter(|_| self.measure.as_ref().is_none_or(MeasurePlan::grows))
    }

    /// Field whose values it counts or measures.
    pub(crate) fn counted_field(&self) -> Option<&str> {
        self.distinct.as_deref().or_else(|| self.measure.as_ref()?.field())
    }

    /// Ids of the rules whose openings it counts.
    pub(crate) fn upstream_rules(&self) -> impl Iterator<Item = &str> {
        self.branches.iter().filter_map(|branch| match &branch.when {
            Condition::Opened(rule) => Some(rule.as_str()),
            _ => None,
        })
    }

    /// Fields that determine which events it counts and in which groups.
    pub(crate) fn deciding_fields(&self) -> BTreeSet<&str> {
        let peers = self.baseline.iter().filter_map(|baseline| baseline.peers.as_ref());
        let mut fields: BTreeSet<&str> = peers.map(String::as_str).collect();
        if self.branches.is_empty() {
            fields.extend(self.group_by.iter().map(String::as_str));
        }
        let events = self.branches.iter().filter(|branch| !matches!(branch.when, Condition::Opened(_)));
        fields.extend(events.flat_map(|branch| &branch.group_by).map(String::as_str));
        fields.extend(self.novelty.as_ref().and_then(NoveltyPlan::field));
        for condition in self.parts.iter().chain([&self.when]) {
            condition.for_each_field(&mut |name| {
                fields.insert(name);
            });
        }
        fields
    }

    /// Checks what the schema does not express.
    pub(crate) fn check(&self) -> Result<(), PlanError> {
        let fault = |problem: &str| PlanError::in_rule(&self.id, problem);
        if self.resolution_ms < 1000 {
            return Err(fault("resolution must be at least 1 s"));
        }
        if self.novelty.as_ref().is_some_and(|novelty| !novelty.is_sound()) {
            return Err(fault(
                "a novelty filter needs 2 to 400 days, and after_days must not exceed over_days",
            ));
        }
        if self.distinct.is_some() && !(self.parts.is_empty() && self.measure.is_none()) {
            return Err(fault("a rule counts either values of a field or conditions"));
        }
        if self.branches.iter().any(|branch| branch.group_by.len() != self.group_by.len()) {
            return Err(fault("every branch must have as many fields as group_by"));
        }
        if !self.branches.is_empty() && !self.parts.is_empty() && self.branches.len() != self.parts.len() {
            return Err(fault("with branches, every part must be a branch"));
        }
        if self.branches.len() > 64 {
            return Err(fault("there are more than 64 branches"));
        }
        let upstream_rules = self.upstream_rules().next().is_some();
        if upstream_rules && (self.baseline.is_some() || self.novelty.is_some()) {
            return Err(fault(
                "a rule that counts findings can have neither a baseline nor a novelty filter",
            ));
        }
        if let Some(measure) = &self.measure {
            measure.check(self.parts.len()).map_err(fault)?;
            if self.baseline.is_some() {
                return Err(fault("a baseline needs a count, not a measure"));
            }
        }
        let is_sound = |bound: f64| match self.scale() {
            Scale::Counts => bound >= 0.0 && bound.fract() == 0.0,
            Scale::Reals => bound.is_finite(),
        };
        if !self.holds.bounds().all(is_sound) {
            return Err(fault("bounds of counts must be whole numbers, other bounds finite numbers"));
        }
        if let Some(baseline) = &self.baseline {
            if self.floor().is_none() {
                return Err(fault("a baseline raises a threshold; the condition must be gte or gt"));
            }
            if !(1..=400).contains(&baseline.over_days)
                || baseline.least_days == 0
                || baseline.least_peers == 0
            {
                return Err(fault("a baseline needs 1 to 400 days, and at least one day and one peer"));
            }
            if !(0.0..=1.0).contains(&baseline.quantile) {
                return Err(fault("a baseline's quantile must be between 0 and 1"));
            }
            for factor in [baseline.factor, baseline.stranger_factor] {
                if !factor.is_finite() || factor <= 0.0 {
                    return Err(fault("a baseline's factors must be positive"));
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
