//! The engine: a batch of records through extraction, rules and windows.

use crate::field::{Event, EventReader, FieldId, FieldTable, ScalarKind, Value};
use crate::finding::Change;
use crate::json::{Fault, FaultKind};
use crate::key::Keyring;
use crate::keyed::{KeyedStream, Names};
use crate::matcher::Matcher;
use crate::plan::{Condition, Plan, PlanError};
use crate::record::Record;
use crate::record_batch::{Decoder, Fetched};
use crate::reject::{Reason, Reject};
use crate::time::{Micros, TimeReader, format_rfc3339, parse_time_number};
use crate::watermark::{StreamClock, StreamId, Watermark};
use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// What the caller says about a batch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Input {
    /// The stream the batch is from.
    pub stream: StreamId,
    /// The time now, against which events from the future are told; `None` takes every time.
    pub now: Option<Micros>,
}

/// What came of a batch.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Findings that opened, were swallowed or closed, one entry each.
    pub changes: Vec<Change>,
    /// Records that were not counted.
    pub rejects: Vec<Reject>,
    /// Records counted.
    pub events: u64,
    /// Of these, events that came after the watermark had passed them.
    pub late: u64,
    /// The watermark after the batch; `None` before the first event.
    pub watermark: Option<Micros>,
}

/// Figures of one rule now.
#[derive(Debug, Clone)]
pub struct RuleStats {
    /// Groups in memory, of all rules with the same condition and `group-by`.
    pub groups: usize,
    /// Findings not closed.
    pub open_findings: usize,
    /// Findings ever opened.
    pub opened: u64,
    /// Events that matched.
    pub matched: u64,
    /// Largest count any group reached within the last timespan, over the threshold.
    pub peak_ratio: f64,
}

/// Figures of the engine now.
#[derive(Debug, Clone)]
pub struct Stats {
    /// By rule, in the plan's order.
    pub rules: Vec<RuleStats>,
    /// Memory held by windows, in bytes.
    pub bytes: usize,
    /// The watermark; `None` before the first event.
    pub watermark: Option<Micros>,
    /// The largest event time seen.
    pub newest: Option<Micros>,
}

/// Counts events by the rules of a plan.
#[derive(Debug)]
pub struct Engine {
    reader: EventReader,
    checks: Checks,
    /// The rules' conditions, each once, and what the event at hand made of them.
    conditions: Vec<Matcher>,
    met: Vec<bool>,
    streams: Vec<KeyedStream>,
    watermark: Watermark,
    keyring: Keyring,
    decoder: Decoder,
}

/// A batch on its way through.
struct Pass {
    outcome: Outcome,
    clock: StreamClock,
    /// No event may be later.
    latest: Micros,
}

/// What makes a record an event.
#[derive(Debug)]
struct Checks {
    time: FieldId,
    actor: FieldId,
    subject: FieldId,
    earliest: Micros,
    max_skew: Micros,
    max_record_bytes: usize,
    times: TimeReader,
}

/// A second past which no time is taken, clock or not: 2100-01-01. Panes are 32 bits wide.
const END_OF_TIME: Micros = 4_102_444_800 * 1_000_000;

/// Events taken in before they are counted: enough look-ups to overlap, few enough to stay in the first cache.
const BLOCK: usize = 256;

type Refusal = (Reason, String);

impl Engine {
    /// An engine without events yet.
    ///
    /// # Errors
    /// What in the plan cannot be run.
    pub fn new(plan: &Plan) -> Result<Self, PlanError> {
        // The standard library seeds its hasher from the operating system's randomness.
        let seed = RandomState::new();
        let mut key = [0; 16];
        key[..8].copy_from_slice(&seed.hash_one(0).to_le_bytes());
        key[8..].copy_from_slice(&seed.hash_one(1).to_le_bytes());
        let mut fields = FieldTable::new(plan);
        let millis = |ms: u64| Micros::try_from(ms).unwrap_or(Micros::MAX).saturating_mul(1000);
        let checks = Checks {
            time: fields.required("time")?,
            actor: fields.required("actor")?,
            subject: fields.id("subject")?,
            earliest: plan.earliest_s.max(1).saturating_mul(1_000_000),
            max_skew: millis(plan.max_future_skew_ms),
            max_record_bytes: plan.max_record_bytes,
            times: TimeReader::default(),
        };
        let mut known: Vec<&Condition> = Vec::new();
        let mut conditions = Vec::new();
        let mut streams: Vec<KeyedStream> = Vec::new();
        for (at, rule) in plan.rules.iter().enumerate() {
            rule.check()?;
            let condition = known.iter().position(|&condition| *condition == rule.when);
            let condition = if let Some(condition) = condition {
                condition
            } else {
                conditions.push(Matcher::compile(&rule.when, &rule.id, &mut fields)?);
                known.push(&rule.when);
                known.len() - 1
            };
            let group_by =
                rule.group_by.iter().map(|name| fields.id(name)).collect::<Result<Vec<_>, _>>()?;
            let stream = streams.iter().position(|stream| stream.has(condition, &group_by));
            let stream = stream.unwrap_or_else(|| {
                streams.push(KeyedStream::new(condition, group_by));
                streams.len() - 1
            });
            streams[stream].add(rule, at, &mut fields)?;
        }
        Ok(Self {
            reader: fields.reader(),
            checks,
            met: vec![false; conditions.len()],
            conditions,
            streams,
            watermark: Watermark::new(millis(plan.allowed_lateness_ms)),
            keyring: Keyring::new(key),
            decoder: Decoder::default(),
        })
    }

    /// Counts a batch of records of one stream, in the order they came.
    pub fn process<'a>(&mut self, records: impl IntoIterator<Item = Record<'a>>, input: Input) -> Outcome {
        let mut pass = self.begin(input);
        self.take(records.into_iter().map(Ok), &mut pass);
        self.end(pass)
    }

    /// Counts what a fetch of one Kafka partition brought, in the order of its offsets.
    pub fn process_fetched(&mut self, fetched: Fetched<'_>, input: Input) -> Outcome {
        let mut pass = self.begin(input);
        let mut decoder = std::mem::take(&mut self.decoder);
        decoder.each_run(fetched, |run| self.take(run.records(), &mut pass));
        self.decoder = decoder;
        self.end(pass)
    }

    fn begin(&mut self, input: Input) -> Pass {
        let clock = self.watermark.open(input.stream);
        let latest =
            input.now.map_or(END_OF_TIME, |now| now.saturating_add(self.checks.max_skew).min(END_OF_TIME));
        Pass { outcome: Outcome::default(), clock, latest }
    }

    fn take<'a>(&mut self, records: impl Iterator<Item = Result<Record<'a>, Reject>>, pass: &mut Pass) {
        let Pass { outcome, clock, latest } = pass;
        let mut block: Vec<&[u8]> = Vec::with_capacity(BLOCK);
        for record in records {
            let record = match record {
                Ok(record) => record,
                Err(reject) => {
                    outcome.rejects.push(reject);
                    continue;
                }
            };
            match self.checks.admit(record.value, *latest, &mut self.reader) {
                Ok((event, time)) => {
                    let watermark = clock.watermark();
                    outcome.events += 1;
                    outcome.late += u64::from(time < watermark);
                    for (met, condition) in self.met.iter_mut().zip(&self.conditions) {
                        *met = condition.matches(&event);
                    }
                    for stream in self.streams.iter_mut().filter(|stream| self.met[stream.condition]) {
                        stream.take_in(&event, block.len(), (time, watermark), self.keyring);
                    }
                    clock.observe(time);
                    block.push(record.value);
                    if block.len() == BLOCK {
                        self.count_block(&block);
                        block.clear();
                    }
                }
                Err((reason, detail)) => {
                    let (position, value) = (record.position, record.value.into());
                    outcome.rejects.push(Reject { position, reason, detail, value });
                }
            }
        }
        self.count_block(&block);
    }

    fn end(&mut self, pass: Pass) -> Outcome {
        let Pass { mut outcome, clock, .. } = pass;
        self.watermark.close(clock);
        self.settle(&mut outcome);
        outcome
    }

    fn count_block(&mut self, records: &[&[u8]]) {
        let mut names = Names { records, reader: &mut self.reader, keyring: self.keyring };
        for stream in &mut self.streams {
            stream.count_block(&mut names);
        }
    }

    /// Lets a stream hold the watermark back from now on: a new one before its first event, an idle one again.
    pub fn join(&mut self, stream: StreamId) {
        self.watermark.join(stream);
    }

    /// Takes a stream away.
    pub fn leave(&mut self, stream: StreamId) -> Outcome {
        self.watermark.leave(stream);
        self.settled()
    }

    /// Lets the other streams go on without this one until its next event.
    pub fn set_idle(&mut self, stream: StreamId) -> Outcome {
        self.watermark.set_idle(stream);
        self.settled()
    }

    /// No more events will come: judges and closes everything.
    pub fn finish(&mut self) -> Outcome {
        self.watermark.finish();
        self.settled()
    }

    /// Findings whose figures have changed since they were last told of, one entry each. A busy finding changes
    /// with every batch, so its reader says how often it wants to hear of it.
    pub fn updates(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for window in self.streams.iter_mut().flat_map(|stream| &mut stream.windows) {
            for detector in &mut window.detectors {
                detector.updates(&window.counts, &mut changes);
            }
        }
        changes
    }

    /// Figures now.
    pub fn stats(&self) -> Stats {
        let newest = self.watermark.newest();
        let mut rules = BTreeMap::new();
        for stream in &self.streams {
            for window in &stream.windows {
                let largest = newest.map_or(0, |time| window.counts.largest(time));
                for detector in &window.detectors {
                    let stats = RuleStats {
                        groups: stream.groups(),
                        open_findings: detector.open_findings(),
                        opened: detector.opened,
                        matched: stream.matched,
                        peak_ratio: f64::from(largest) / detector.threshold() as f64,
                    };
                    rules.insert(detector.rule, stats);
                }
            }
        }
        Stats {
            rules: rules.into_values().collect(),
            bytes: self.streams.iter().map(KeyedStream::heap_bytes).sum(),
            watermark: self.current_watermark(),
            newest,
        }
    }

    fn current_watermark(&self) -> Option<Micros> {
        Some(self.watermark.current()).filter(|&time| time != Micros::MIN && time != Micros::MAX)
    }

    fn settled(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        self.settle(&mut outcome);
        outcome
    }

    fn settle(&mut self, outcome: &mut Outcome) {
        let watermark = self.watermark.current();
        for stream in &mut self.streams {
            stream.settle(watermark, &mut outcome.changes);
        }
        outcome.watermark = self.current_watermark();
    }
}

impl Checks {
    /// Takes a record in as an event, or says why not.
    fn admit<'a>(
        &mut self,
        bytes: &'a [u8],
        latest: Micros,
        reader: &'a mut EventReader,
    ) -> Result<(Event<'a>, Micros), Refusal> {
        if bytes.is_empty() {
            return Err((Reason::Empty, "the record has no bytes".to_owned()));
        }
        if bytes.len() > self.max_record_bytes {
            let detail = format!("{} bytes, at most {} are taken", bytes.len(), self.max_record_bytes);
            return Err((Reason::TooLarge, detail));
        }
        let Ok(record) = simdutf8::basic::from_utf8(bytes) else { return Err(not_utf8(bytes)) };
        let event = reader.read(record).map_err(not_json)?;
        let time = self.time(&event, latest)?;
        match event.value(self.actor) {
            Value::One(actor) if matches!(actor.kind(), ScalarKind::Bool(_)) => {
                return Err(wrong_type("actor", "a string or a number", "a boolean"));
            }
            Value::One(actor) if event.bytes(actor).is_empty() => {
                return Err((Reason::MissingActor, "actor is an empty string".to_owned()));
            }
            Value::One(_) => {}
            Value::Absent | Value::Null => {
                return Err((Reason::MissingActor, "the event has no actor".to_owned()));
            }
            Value::Many(..) => return Err(wrong_type("actor", "a string or a number", "a list")),
            Value::Object => return Err(wrong_type("actor", "a string or a number", "an object")),
        }
        let wanted = "a string, a number or a list of these";
        if matches!(event.value(self.subject), Value::Object) {
            return Err(wrong_type("subject", wanted, "an object"));
        }
        let subjects = event.scalars(self.subject);
        let boolean = subjects.iter().any(|subject| matches!(subject.kind(), ScalarKind::Bool(_)));
        if event.is_ragged(self.subject) || boolean {
            return Err(wrong_type("subject", wanted, "something else"));
        }
        Ok((event, time))
    }

    fn time(&mut self, event: &Event<'_>, latest: Micros) -> Result<Micros, Refusal> {
        let wanted = "RFC 3339 text or an epoch number";
        let time = match event.value(self.time) {
            Value::One(scalar) => {
                let text = event.text(scalar);
                match scalar.kind() {
                    ScalarKind::Text => self.times.read(text),
                    ScalarKind::Number => parse_time_number(text),
                    ScalarKind::Bool(_) => return Err(wrong_type("time", wanted, "a boolean")),
                }
            }
            Value::Absent | Value::Null => {
                return Err((Reason::MissingTime, "the event has no time".to_owned()));
            }
            Value::Many(..) => return Err(wrong_type("time", wanted, "a list")),
            Value::Object => return Err(wrong_type("time", wanted, "an object")),
        };
        let Some(time) = time else {
            let detail = "time is neither RFC 3339 with an offset nor an epoch number".to_owned();
            return Err((Reason::BadTime, detail));
        };
        if time < self.earliest {
            let bound = format_rfc3339(self.earliest);
            return Err((Reason::TimeTooOld, format!("{} is before {bound}", spoken(time))));
        }
        if time > latest {
            let bound = format_rfc3339(latest);
            return Err((Reason::TimeInFuture, format!("{} is after {bound}", spoken(time))));
        }
        Ok(time)
    }
}

/// A time for a message; years RFC 3339 cannot write are given as a number.
fn spoken(time: Micros) -> String {
    if (-62_135_596_800_000_000..253_402_300_800_000_000).contains(&time) {
        format_rfc3339(time)
    } else {
        format!("epoch {} s", time / 1_000_000)
    }
}

#[cold]
fn not_utf8(bytes: &[u8]) -> Refusal {
    let at = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len);
    (Reason::NotUtf8, format!("byte {at} is not UTF-8"))
}

#[cold]
fn not_json(fault: Fault) -> Refusal {
    let reason = match fault.kind {
        FaultKind::Syntax => Reason::BadJson,
        FaultKind::TooDeep => Reason::TooDeep,
        FaultKind::NotAnObject => Reason::NotAnObject,
    };
    (reason, format!("byte {}: wanted {}", fault.at, fault.wanted))
}

#[cold]
fn wrong_type(field: &str, wanted: &str, found: &str) -> Refusal {
    (Reason::WrongType, format!("{field} wants {wanted}, not {found}"))
}
