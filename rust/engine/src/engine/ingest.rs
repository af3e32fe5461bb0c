//! Ingest worker: decodes one chunk of a batch, evaluates rule conditions, and routes matching events to shards.
//!
//! Workers run in parallel, each with its own reader, so a worker cannot know the watermark at the start of its
//! chunk. Each routed event carries the largest event time seen earlier in the chunk; the shard derives the watermark
//! from that.

use super::repartition::Outbound;
use crate::decode::record::Record;
use crate::decode::reject::Reject;
use crate::event::admit::{Checks, not_utf8};
use crate::event::field::{EventReader, Problem};
use crate::event::recording::Recorder;
use crate::foundation::fingerprint::Fingerprinter;
use crate::foundation::partition::SHARDS;
use crate::foundation::time::Micros;
use crate::foundation::watermark::StreamClock;
use crate::keyed::{KeyedBatch, Resume, RouteContext, StreamSpec};
use crate::matching::Matcher;
use crate::plan::Partition;
use std::borrow::Cow;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct IngestWorker {
    checks: Checks,
    pub(crate) reader: EventReader,
    /// The distinct conditions of all rules, and their results for the current event.
    conditions: Arc<[Matcher]>,
    /// For each condition, whether it sees rejected records.
    of_rejected: Arc<[bool]>,
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
    /// What rules saw of the chunk.
    pub(crate) coverage: Coverage,
}

/// Times of a batch, by which records are judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ArrivalTimes {
    /// Later events are rejected.
    pub(crate) latest: Micros,
    /// Largest event time of the stream before the batch.
    pub(crate) clock: Option<Micros>,
    /// Events before this time are reported as late.
    pub(crate) late_before: Micros,
}

/// How much of the input the rules saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Events that met no condition of any rule.
    pub unmatched: u64,
    /// Events that are no access, such as logins and heartbeats; no rule sees them.
    pub no_access: u64,
    /// Nulls that were skipped in lists of values.
    pub skipped_nulls: u64,
    /// Events with bytes that are not UTF-8, which were replaced.
    pub repaired: u64,
}

impl Coverage {
    pub(crate) fn add(&mut self, other: Self) {
        self.unmatched += other.unmatched;
        self.no_access += other.no_access;
        self.skipped_nulls += other.skipped_nulls;
        self.repaired += other.repaired;
    }
}

impl IngestWorker {
    pub(crate) fn new(
        checks: Checks,
        reader: EventReader,
        (conditions, of_rejected): (Arc<[Matcher]>, Arc<[bool]>),
        streams: Arc<[StreamSpec]>,
        fingerprinter: Fingerprinter,
        (partition, outbound, recorder): (Option<Partition>, Option<Outbound>, Option<Recorder>),
    ) -> Self {
        Self {
            checks,
            reader,
            met: vec![false; conditions.len()],
            conditions,
            of_rejected,
            coverage: Coverage::default(),
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

    /// Reads a chunk. Appends the bytes of each accepted record to `events`; rejects events later than the latest time.
    /// Events that `resume` marks as counted before a restore are not routed again. A rejected record without a usable
    /// time counts at the largest time before it.
    pub(crate) fn read<'r>(
        &mut self,
        records: impl Iterator<Item = Result<Record<'r>, Box<Reject>>>,
        times: ArrivalTimes,
        resume: Option<&Resume>,
        events: &mut Vec<Cow<'r, [u8]>>,
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
            match record.text.or_else(|| simdutf8::basic::from_utf8(record.value).ok()) {
                Some(text) => {
                    self.read_one(record, text, times, resume, || Cow::Borrowed(record.value), events);
                }
                None => self.read_repaired(record, times, resume, events),
            }
        }
    }

    /// Reads a record that is not UTF-8: each wrong byte becomes U+FFFD, so that it cannot hide an access.
    #[cold]
    fn read_repaired<'r>(
        &mut self,
        record: Record<'r>,
        times: ArrivalTimes,
        resume: Option<&Resume>,
        events: &mut Vec<Cow<'r, [u8]>>,
    ) {
        let text = String::from_utf8_lossy(record.value).into_owned();
        let rejected = self.rejects.len();
        self.read_one(record, &text, times, resume, || Cow::Owned(text.clone().into_bytes()), events);
        if let Some(reject) = self.rejects.get_mut(rejected) {
            (reject.reason, reject.detail) = not_utf8(record.value);
        } else {
            self.coverage.repaired += 1;
        }
    }

    /// Reads one record; `bytes` returns what names its groups.
    #[inline]
    fn read_one<'r>(
        &mut self,
        record: Record<'_>,
        text: &str,
        times: ArrivalTimes,
        resume: Option<&Resume>,
        bytes: impl Fn() -> Cow<'r, [u8]>,
        events: &mut Vec<Cow<'r, [u8]>>,
    ) {
        match self.checks.admit(text, times.latest, &mut self.reader) {
            Ok((event, time)) => {
                self.coverage.skipped_nulls += u64::from(event.skipped_nulls());
                let is_access = !self.checks.is_no_access(&event);
                self.coverage.no_access += u64::from(!is_access);
                for (met, condition) in self.met.iter_mut().zip(&*self.conditions) {
                    *met = is_access && condition.matches(&event);
                }
                self.coverage.unmatched += u64::from(is_access && !self.met.contains(&true));
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
                    recorder.take(&event, time, record.position, text.as_bytes());
                }
                let position = record.position;
                if time < times.late_before && self.of_rejected.contains(&true) {
                    self.route_problem(position, (text, Problem::Late), times, resume, events.len());
                }
                self.times.push((time, self.newest));
                self.newest = self.newest.max(time);
                events.push(bytes());
            }
            Err((reason, detail)) => {
                let (position, value) = (record.position, record.value.into());
                self.rejects.push(Reject { position, reason, detail, value });
                if self.of_rejected.contains(&true) {
                    let problem = Problem::Rejected(reason);
                    let is_routed =
                        self.route_problem(position, (text, problem), times, resume, events.len());
                    if is_routed {
                        events.push(bytes());
                    }
                }
            }
        }
    }

    /// Routes a record with a problem, as far as it can be read, to the rules on such records. It does not advance the
    /// watermark. Returns whether a rule counts it.
    #[cold]
    fn route_problem(
        &mut self,
        position: u64,
        (text, problem): (&str, Problem),
        times: ArrivalTimes,
        resume: Option<&Resume>,
        event_index: usize,
    ) -> bool {
        let clock = if self.newest == Micros::MIN { times.clock } else { Some(self.newest) };
        let times = (times.latest, clock);
        let Some((event, time)) = self.checks.read_with_problem(text, problem, times, &mut self.reader)
        else {
            return false;
        };
        let conditions = self.conditions.iter().zip(&*self.of_rejected);
        for (met, (condition, &of_rejected)) in self.met.iter_mut().zip(conditions) {
            *met = of_rejected && condition.matches(&event);
        }
        let context = RouteContext {
            event: &event,
            event_index,
            time,
            newest: self.newest,
            position,
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
        self.met.contains(&true)
    }

    /// Number of events in the chunk, and how many of them were late.
    pub(crate) fn tally(&self, clock: StreamClock) -> (u64, u64) {
        let late = self.times.iter().filter(|&&(time, newest)| time < clock.watermark_after(newest)).count();
        (self.times.len() as u64, late as u64)
    }
}
