//! The engine: batches of records in, finding changes out, on one thread or several.
//!
//! A batch is processed in steps. In each step, ingest workers decode one chunk each, in parallel; then the shards
//! count their groups' events of all chunks, in parallel. There is one worker per thread, and the findings do not
//! depend on their number. The number of shards is fixed, so that every engine can restore every snapshot. Steps too
//! small for a hand-over run on the caller's thread.
//!
//! Files: [`process`] (batches), [`advance`] (watermark), [`checkpoint`] and [`snapshot`] (state), [`eviction`],
//! [`stats`], [`topology`] (rules to streams), [`ingest`] and [`shard`] (the two halves of a step), [`repartition`]
//! (events for other engines).

mod advance;
mod checkpoint;
mod eviction;
mod ingest;
mod outcome;
mod process;
mod repartition;
mod shard;
mod snapshot;
mod stats;
mod thread_pool;
mod topology;

pub use ingest::Coverage;
pub use outcome::{Evicted, Input, Outcome, RuleStats, Stats};
pub use repartition::{RepartitionBatch, RepartitionBatchError};
pub use snapshot::{
    Dropped, READABLE as READABLE_SNAPSHOT_VERSIONS, RestoreError, VERSION as SNAPSHOT_VERSION,
};

use crate::decode::record_batch::Decoder;
use crate::event::admit::Checks;
use crate::event::field::FieldTable;
use crate::event::lookup::Tables;
use crate::event::recording::Recorder;
use crate::foundation::calendar::Days;
use crate::foundation::fingerprint::Fingerprinter;
use crate::foundation::partition::SHARDS;
use crate::foundation::time::{Micros, micros};
use crate::foundation::watermark::{StreamId, Watermark};
use crate::keyed::{KeyedStream, PlacedRule, Resume, StreamSpec};
use crate::matching::Matcher;
use crate::plan::{IdentityForm, Plan, PlanError, RulePlan};
use ingest::IngestWorker;
use repartition::Outbound;
use rustc_hash::FxHashMap;
use shard::Shard;
use snapshot::StateLayout;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use thread_pool::WorkerPool;
use topology::{Conditions, RuleSlot, Topology, build_topology};

/// Counts events by the rules of a plan.
#[derive(Debug)]
pub struct Engine {
    fingerprinter: Fingerprinter,
    workers: Vec<IngestWorker>,
    decoders: Vec<Decoder>,
    shards: Vec<Shard>,
    state_layout: StateLayout,
    /// For streams of the restored snapshot, the positions up to which events were counted.
    resuming: FxHashMap<StreamId, Resume>,
    pool: WorkerPool,
    watermark: Watermark,
    max_skew: Micros,
    /// Delay behind the watermark after which an event is reported as late.
    late_after: Micros,
    tables: Tables,
    /// Location (stream, window, detector) of the baseline rules, the same in every shard.
    baseline_rules: Vec<(usize, usize, usize)>,
    specs: Arc<[StreamSpec]>,
    /// Stream indices by level: streams of a level count finding openings of lower levels.
    levels: Vec<Range<usize>>,
    days: Days,
    /// For each rule, the identity forms of its group's fields.
    group_forms: Vec<Vec<Option<IdentityForm>>>,
}

impl Engine {
    /// Creates an engine without state that uses `threads` threads.
    ///
    /// # Errors
    /// The plan cannot be run.
    pub fn new(plan: &Plan, threads: NonZeroUsize) -> Result<Self, PlanError> {
        let key = plan.key()?;
        Self::with_keyring(plan, threads, key.map_or_else(random_keyring, Fingerprinter::new))
    }

    fn with_keyring(
        plan: &Plan,
        threads: NonZeroUsize,
        fingerprinter: Fingerprinter,
    ) -> Result<Self, PlanError> {
        let mut fields = FieldTable::new(plan)?;
        let checks = Checks::new(plan, &mut fields)?;
        if let Some(partition) = plan.partition {
            partition.check()?;
        }
        let mut conditions = Conditions::default();
        let Topology { streams: specs, levels, slots, upstream } =
            build_topology(&plan.rules, &mut conditions, &mut fields)?;
        let elsewhere = plan.repartition.as_ref().map_or(&[][..], |repartition| &repartition.rules);
        let elsewhere = build_topology(elsewhere, &mut conditions, &mut fields)?.streams;
        let outbound = Outbound::new(plan, elsewhere, &mut fields)?;
        let recorder = plan.history.then(|| Recorder::new(&mut fields)).transpose()?;
        let of_rejected: Arc<[bool]> = conditions.of_rejected.into();
        let conditions: Arc<[Matcher]> = conditions.compiled.into();
        let days = Days { offset: fields.zone().offset() };
        let reader = fields.reader();
        let shards =
            (0..SHARDS).map(|_| {
                let streams =
                    specs.iter().enumerate().map(|(stream, spec)| {
                        let rules = plan.rules.iter().zip(&slots).enumerate();
                        let rules = rules.filter(|&(_, (_, place))| place.stream == stream);
                        let placed = rules.map(|(number, (plan, &RuleSlot { counted, peers, .. }))| {
                            PlacedRule { number, plan, counted, peers }
                        });
                        let mut stream = KeyedStream::new(spec, days, placed);
                        stream.publish_openings(&upstream);
                        stream
                    });
                Shard::new(streams.collect(), reader.clone(), fingerprinter)
            });
        let worker = |_| {
            let conditions = (Arc::clone(&conditions), Arc::clone(&of_rejected));
            let specs = Arc::clone(&specs);
            let elsewhere = (plan.partition, outbound.clone(), recorder.clone());
            IngestWorker::new(checks.clone(), reader.clone(), conditions, specs, fingerprinter, elsewhere)
        };
        let forms = |rule: &RulePlan| {
            let form = |place| rule.group_form(place, |name| plan.identities.get(name).copied());
            (0..rule.group_by.len()).map(form).collect()
        };
        let shards: Vec<Shard> = shards.collect();
        let baseline_rules = shards[0].baseline_rules().collect();
        Ok(Self {
            fingerprinter,
            state_layout: snapshot::state_layout(plan, &shards[0].streams),
            resuming: FxHashMap::default(),
            shards,
            pool: WorkerPool::new(threads)?,
            workers: (0..threads.get()).map(worker).collect(),
            decoders: (0..threads.get()).map(|_| Decoder::default()).collect(),
            watermark: Watermark::new(micros(plan.allowed_lateness_ms)),
            max_skew: micros(plan.max_future_skew_ms),
            late_after: micros(plan.late_after_ms),
            tables: Tables::default(),
            baseline_rules,
            specs: Arc::clone(&specs),
            levels,
            days,
            group_forms: plan.rules.iter().map(forms).collect(),
        })
    }

    /// Sets the look-up tables of derived fields. They may be replaced while the engine runs; a batch uses one
    /// version.
    pub fn use_tables(&mut self, tables: Tables) {
        self.tables = tables;
    }

    fn matched(&self, stream: usize) -> u64 {
        self.workers.iter().map(|worker| worker.matched[stream]).sum()
    }
}

fn random_keyring() -> Fingerprinter {
    // The standard library seeds its hasher with random numbers from the operating system.
    let seed = RandomState::new();
    let mut key = [0; 16];
    key[..8].copy_from_slice(&seed.hash_one(0).to_le_bytes());
    key[8..].copy_from_slice(&seed.hash_one(1).to_le_bytes());
    Fingerprinter::new(key)
}
