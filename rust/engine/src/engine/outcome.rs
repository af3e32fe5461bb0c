//! Inputs and results of the engine's calls.

use super::ingest::Coverage;
use super::repartition::RepartitionBatch;
use crate::decode::reject::Reject;
use crate::detect::Change;
use crate::event::recording::Recording;
use crate::foundation::eviction::EvictedCounts;
use crate::foundation::time::Micros;
use crate::foundation::watermark::StreamId;

/// Parameters of a batch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Input {
    /// Source stream of the batch.
    pub stream: StreamId,
    /// Current time, used to reject events too far in the future; `None` accepts all.
    pub now: Option<Micros>,
}

/// Result of a batch.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Findings that opened, were merged or closed, one entry each.
    pub changes: Vec<Change>,
    /// Records that were not counted.
    pub rejects: Vec<Reject>,
    /// Number of records counted.
    pub events: u64,
    /// Number of these that were late: the watermark had passed their time.
    pub late: u64,
    /// What the rules saw of the records.
    pub coverage: Coverage,
    /// Watermark after the batch; `None` before the first event.
    pub watermark: Option<Micros>,
    /// Largest event time on the batch's stream; `None` before the first event.
    pub clock: Option<Micros>,
    /// Events that other engines count. Batches for one partition are in order.
    pub repartition_batches: Vec<RepartitionBatch>,
    /// The events, if the plan records the history.
    pub recording: Recording,
}

/// Statistics of one rule.
#[derive(Debug, Clone, Default)]
pub struct RuleStats {
    /// Groups in memory, of all rules with the same condition and `group-by`.
    pub groups: usize,
    /// Open findings.
    pub open_findings: usize,
    /// Groups that meet the condition but got no finding because too many are open.
    pub suppressed: usize,
    /// Findings opened since the start.
    pub opened: u64,
    /// Events that met the condition.
    pub matched: u64,
    /// Ratio of the largest count of any group within the last timespan to the threshold.
    pub peak_ratio: f64,
}

/// Statistics of the engine.
#[derive(Debug, Clone)]
pub struct Stats {
    /// Per rule, in the plan's order.
    pub rules: Vec<RuleStats>,
    /// Memory of all windows, in bytes.
    pub bytes: usize,
    /// Watermark; `None` before the first event.
    pub watermark: Option<Micros>,
    /// Largest event time.
    pub newest: Option<Micros>,
}

/// State that was evicted because memory ran short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evicted {
    /// Cut-off: the evicted groups and values were last seen before this time.
    pub before: Micros,
    /// Per rule, in the plan's order. Rules that share a window report the same evictions.
    pub rules: Vec<EvictedCounts>,
}
