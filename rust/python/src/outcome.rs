//! What the engine answers, as plain objects with attributes.

use crate::history::Recording;
use custodes_engine as core;
use pyo3::prelude::*;

/// A count, or what was measured: an `int` where it is whole.
#[derive(Debug, Clone, Copy, IntoPyObject)]
pub enum Amount {
    Whole(i64),
    Real(f64),
}

impl From<f64> for Amount {
    fn from(number: f64) -> Self {
        /// Up to here every whole number has its own.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if number.fract() == 0.0 && number.abs() <= EXACT {
            Self::Whole(number as i64)
        } else {
            Self::Real(number)
        }
    }
}

/// A finding that changed in a batch. Times are microseconds since the epoch.
#[pyclass(frozen, get_all, module = "custodes._core")]
#[derive(Clone)]
pub struct FindingChange {
    kind: &'static str,
    id: String,
    rule: usize,
    group: Vec<String>,
    opened_at: i64,
    closed_at: Option<i64>,
    held_from: i64,
    held_until: i64,
    peak: Amount,
    threshold: Amount,
    usual: Option<f64>,
    count: u64,
    merged_into: Option<String>,
}

impl From<core::Change> for FindingChange {
    fn from(change: core::Change) -> Self {
        Self {
            kind: match change.kind {
                core::ChangeKind::Opened => "opened",
                core::ChangeKind::Updated => "updated",
                core::ChangeKind::Closed => "closed",
                core::ChangeKind::Merged => "merged",
            },
            id: change.id,
            rule: change.rule,
            group: change.group,
            opened_at: change.opened_at,
            closed_at: change.closed_at,
            held_from: change.from,
            held_until: change.until,
            peak: change.peak.into(),
            threshold: change.threshold.into(),
            usual: change.expected,
            count: change.count,
            merged_into: change.merged_into,
        }
    }
}

/// A record that was not counted, with its bytes.
#[pyclass(frozen, get_all, module = "custodes._core")]
#[derive(Clone)]
pub struct Reject {
    position: u64,
    reason: &'static str,
    detail: String,
    value: Vec<u8>,
}

impl From<core::Reject> for Reject {
    fn from(reject: core::Reject) -> Self {
        Self {
            position: reject.position,
            reason: reject.reason.name(),
            detail: reject.detail,
            value: reject.value.into(),
        }
    }
}

/// What came of a batch.
#[pyclass(frozen, get_all, module = "custodes._core")]
pub struct Outcome {
    changes: Vec<FindingChange>,
    rejects: Vec<Reject>,
    events: u64,
    late: u64,
    watermark: Option<i64>,
    clock: Option<i64>,
    parcels: Vec<(u32, u64, Vec<u8>)>,
    recording: Recording,
}

impl From<core::Outcome> for Outcome {
    fn from(outcome: core::Outcome) -> Self {
        Self {
            rejects: outcome.rejects.into_iter().map(Reject::from).collect(),
            changes: outcome.changes.into_iter().map(FindingChange::from).collect(),
            events: outcome.events,
            late: outcome.late,
            watermark: outcome.watermark,
            clock: outcome.clock,
            parcels: (outcome.repartition_batches.into_iter())
                .map(|parcel| (parcel.partition, parcel.first, parcel.bytes))
                .collect(),
            recording: outcome.recording.into(),
        }
    }
}

/// What was forgotten because memory ran short.
#[pyclass(frozen, get_all, module = "custodes._core")]
pub struct Shed {
    before: i64,
    rules: Vec<(usize, usize)>,
}

impl From<core::Evicted> for Shed {
    fn from(shed: core::Evicted) -> Self {
        let rules = shed.rules.into_iter().map(|forgotten| (forgotten.groups, forgotten.values));
        Self { before: shed.before, rules: rules.collect() }
    }
}

/// Figures of one rule.
#[pyclass(frozen, get_all, module = "custodes._core")]
#[derive(Clone)]
pub struct RuleStats {
    groups: usize,
    open_findings: usize,
    unlisted: usize,
    opened: u64,
    matched: u64,
    peak_ratio: f64,
}

/// Figures of the engine.
#[pyclass(frozen, get_all, module = "custodes._core")]
pub struct Stats {
    rules: Vec<RuleStats>,
    bytes: usize,
    watermark: Option<i64>,
    newest: Option<i64>,
}

impl From<core::Stats> for Stats {
    fn from(stats: core::Stats) -> Self {
        let rules = stats.rules.into_iter().map(|rule| RuleStats {
            groups: rule.groups,
            open_findings: rule.open_findings,
            unlisted: rule.suppressed,
            opened: rule.opened,
            matched: rule.matched,
            peak_ratio: rule.peak_ratio,
        });
        Self { rules: rules.collect(), bytes: stats.bytes, watermark: stats.watermark, newest: stats.newest }
    }
}
