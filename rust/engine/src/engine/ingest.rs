//! Ingest worker: decodes one chunk of a batch, evaluates rule conditions, and routes matching events to shards.
//!
//! Workers run in parallel, each with its own reader, so a worker cannot know the watermark at the start of its
//! chunk. Each routed event carries the largest event time seen earlier in the chunk; the shard derives the watermark
//! from that.

use super::repartition::Outbound;
use crate::decode::record::Record;
use crate::decode::reject::Reject;
use crate::event::admit::Checks;
use crate::event::field::EventReader;
use crate::event::recording::Recorder;
use crate::foundation::fingerprint::Fingerprinter;
use crate::foundation::partition::SHARDS;
use crate::foundation::time::Micros;
use crate::foundation::watermark::StreamClock;
use crate::keyed::{KeyedBatch, Resume, RouteContext, StreamSpec};
use crate::matching::Matcher;
use crate::plan::Partition;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct IngestWorker {
    checks: Checks,
    pub(crate) reader: EventReader,
    /// The distinct conditions of all rules, and their results for the current event.
    conditions: Arc<[Matcher]>,
    met: Vec<bool>,
    streams: Arc<[StreamSpec]>,
    fingerprinter: Fingerprinter,
    partition: Option<Partition>,
    /// Events for other engines.
    pub(crate) outbound: Option<Outbound>,
    /// Recorder of the history.
    pub(crate) recorder: Option<Recorder>,
    /// Routed events, indexed by shard and keyed stream.
    pub(crate) batches: Vec<Vec<KeyedBatch>>,
    /// Matching events per stream.
    pub(crate) matched: Vec<u64>,
    pub(crate) rejects: Vec<Reject>,
    /// For each event, its time and the largest time before it in the chunk.
    times: Vec<(Micros, Micros)>,
    /// Largest event time in the chunk.
    pub(crate) newest: Micros,
}

impl IngestWorker {
    pub(crate) fn new(
        checks: Checks,
        reader: EventReader,
        conditions: Arc<[Matcher]>,
        streams: Arc<[StreamSpec]>,
        fingerprinter: Fingerprinter,
        (partition, outbound, recorder): (Option<Partition>, Option<Outbound>, Option<Recorder>),
    ) -> Self {
        Self {
            checks,
            reader,
            met: vec![false; conditions.len()],
            conditions,
            batches: (0..SHARDS).map(|_| streams.iter().map(|_| KeyedBatch::default()).collect()).collect(),
            matched: vec![0; streams.len()],
            streams,
            fingerprinter,
            partition,
            outbound,
            recorder,
            rejects: Vec::new(),
            times: Vec::new(),
            newest: Micros::MIN,
        }
    }

    /// Reads a chunk. Appends the bytes of each accepted record to `events`; rejects events later than `latest`.
    /// Events that `resume` marks as counted before a restore are not routed again.
    pub(crate) fn read<'r>(
        &mut self,
        records: impl Iterator<Item = Result<Record<'r>, Box<Reject>>>,
        latest: Micros,
        resume: Option<&Resume>,
        events: &mut Vec<&'r [u8]>,
    ) {
        self.times.clear();
        self.newest = Micros::MIN;
        for record in records {
            let record = match record {
                Ok(record) => record,
                Err(reject) => {
                    self.rejects.push(*reject);
                    continue;
                }
            };
            match self.checks.admit(record, latest, &mut self.reader) {
                Ok((event, time)) => {
                    for (met, condition) in self.met.iter_mut().zip(&*self.conditions) {
                        *met = condition.matches(&event);
                    }
                    let context = RouteContext {
                        event: &event,
                        event_index: events.len(),
                        time,
                        newest: self.newest,
                        position: record.position,
                        met: &self.met,
                        fingerprinter: &self.fingerprinter,
                        resume,
                        partition: self.partition,
                    };
                    for (at, stream) in self.streams.iter().enumerate() {
                        if self.met[stream.condition] {
                            self.matched[at] += 1;
                            stream.route(&context, at, &mut self.batches);
                        }
                    }
                    if let Some(outbound) = &mut self.outbound {
                        outbound.take(&event, record.position, &self.met, &self.fingerprinter);
                    }
                    if let Some(recorder) = &mut self.recorder {
                        recorder.take(&event, time, record.position, record.value);
                    }
                    self.times.push((time, self.newest));
                    self.newest = self.newest.max(time);
                    events.push(record.value);
                }
                Err((reason, detail)) => {
                    let (position, value) = (record.position, record.value.into());
                    self.rejects.push(Reject { position, reason, detail, value });
                }
            }
        }
    }

    /// Number of events in the chunk, and how many of them were late.
    pub(crate) fn tally(&self, clock: StreamClock) -> (u64, u64) {
        let late = self.times.iter().filter(|&&(time, newest)| time < clock.watermark_after(newest)).count();
        (self.times.len() as u64, late as u64)
    }
}
