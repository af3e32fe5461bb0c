//! Results of the engine, as plain objects with attributes.

use crate::history::Recording;
use custodes_engine as core;
use pyo3::prelude::*;

/// A count or measure; an `int` in Python if it is whole.
#[derive(Debug, Clone, Copy, IntoPyObject)]
pub enum Amount {
    Whole(i64),
    Real(f64),
}

impl From<f64> for Amount {
    fn from(number: f64) -> Self {
        /// Largest integer up to which every integer is exact.
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
    key: Vec<String>,
    opened_at: i64,
    closed_at: Option<i64>,
    held_from: i64,
    held_until: i64,
    peak: Amount,
    threshold: Amount,
    expected: Option<f64>,
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
            key: change.key,
            opened_at: change.opened_at,
            closed_at: change.closed_at,
            held_from: change.from,
            held_until: change.until,
            peak: change.peak.into(),
            threshold: change.threshold.into(),
            expected: change.expected,
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

/// Result of a batch.
#[pyclass(frozen, get_all, module = "custodes._core")]
pub struct Outcome {
    changes: Vec<FindingChange>,
    rejects: Vec<Reject>,
    events: u64,
    late: u64,
    unmatched: u64,
    no_access: u64,
    skipped_nulls: u64,
    repaired: u64,
    watermark: Option<i64>,
    clock: Option<i64>,
    repartition_batches: Vec<RepartitionBatch>,
    recording: Recording,
}

impl From<core::Outcome> for Outcome {
    fn from(outcome: core::Outcome) -> Self {
        Self {
            rejects: outcome.rejects.into_iter().map(Reject::from).collect(),
            changes: outcome.changes.into_iter().map(FindingChange::from).collect(),
            events: outcome.events,
            late: outcome.late,
            unmatched: outcome.coverage.unmatched,
            no_access: outcome.coverage.no_access,
            skipped_nulls: outcome.coverage.skipped_nulls,
            repaired: outcome.coverage.repaired,
            watermark: outcome.watermark,
            clock: outcome.clock,
            repartition_batches: (outcome.repartition_batches.into_iter())
                .map(RepartitionBatch::from)
                .collect(),
            recording: outcome.recording.into(),
        }
    }
}

/// Events from one source for one partition, which another engine counts.
#[pyclass(frozen, get_all, module = "custodes._core")]
#[derive(Clone)]
pub struct RepartitionBatch {
    partition: u32,
    first: u64,
    events: Vec<u8>,
}

#[pymethods]
impl RepartitionBatch {
    #[new]
    fn new(partition: u32, first: u64, events: Vec<u8>) -> Self {
        Self { partition, first, events }
    }
}

impl From<core::RepartitionBatch> for RepartitionBatch {
    fn from(batch: core::RepartitionBatch) -> Self {
        Self { partition: batch.partition, first: batch.first, events: batch.bytes }
    }
}

/// A run of complete record batches of a fetch.
#[pyclass(frozen, get_all, module = "custodes._core")]
pub struct FetchedPiece {
    end: usize,
    next_offset: i64,
    leader_epoch: i32,
    records: u64,
    latest_ms: i64,
}

impl From<core::FetchedPiece> for FetchedPiece {
    fn from(piece: core::FetchedPiece) -> Self {
        let core::FetchedPiece { end, next_offset, leader_epoch, records, latest_ms } = piece;
        Self { end, next_offset, leader_epoch, records, latest_ms }
    }
}

/// Status of a group for one rule.
#[pyclass(frozen, get_all, module = "custodes._core")]
pub struct GroupStatus {
    level: Amount,
    threshold: Option<Amount>,
    expected: Option<f64>,
}

impl From<core::GroupStatus> for GroupStatus {
    fn from(status: core::GroupStatus) -> Self {
        Self {
            level: status.level.into(),
            threshold: status.threshold.map(Amount::from),
            expected: status.expected,
        }
    }
}

/// State that was evicted because memory ran short.
#[pyclass(frozen, get_all, module = "custodes._core")]
pub struct Evicted {
    before: i64,
    rules: Vec<EvictedCounts>,
}

/// Evicted state of one rule.
#[pyclass(frozen, get_all, module = "custodes._core")]
#[derive(Clone)]
pub struct EvictedCounts {
    groups: usize,
    values: usize,
}

impl From<core::Evicted> for Evicted {
    fn from(evicted: core::Evicted) -> Self {
        let rules = evicted.rules.into_iter();
        let rules = rules.map(|counts| EvictedCounts { groups: counts.groups, values: counts.values });
        Self { before: evicted.before, rules: rules.collect() }
    }
}

/// Statistics of one rule.
#[pyclass(frozen, get_all, module = "custodes._core")]
#[derive(Clone)]
pub struct RuleStats {
    groups: usize,
    open_findings: usize,
    suppressed: usize,
    opened: u64,
    matched: u64,
    peak_ratio: f64,
}

/// Statistics of the engine.
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
            suppressed: rule.suppressed,
            opened: rule.opened,
            matched: rule.matched,
            peak_ratio: rule.peak_ratio,
        });
        Self { rules: rules.collect(), bytes: stats.bytes, watermark: stats.watermark, newest: stats.newest }
    }
}
