//! A lane: reads a piece of a batch and lays out, for each shard, what it has to count.
//!
//! Lanes read pieces of a batch at once, each from its own reader. What depends on the pieces before, the
//! watermark, is left to be worked out later from the largest event time so far within the piece.

use crate::admit::Checks;
use crate::field::EventReader;
use crate::history::Recorder;
use crate::key::Keyring;
use crate::keyed::{Intake, StreamSpec, Taking};
use crate::matcher::Matcher;
use crate::plan::Share;
use crate::record::Record;
use crate::reject::Reject;
use crate::repartition::Outbound;
use crate::shard::SHARDS;
use crate::snapshot::Resume;
use crate::time::Micros;
use crate::watermark::StreamClock;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct Lane {
    checks: Checks,
    pub(crate) reader: EventReader,
    /// The rules' conditions, each once, and what the event at hand made of them.
    conditions: Arc<[Matcher]>,
    met: Vec<bool>,
    streams: Arc<[StreamSpec]>,
    keyring: Keyring,
    share: Option<Share>,
    /// What others count.
    pub(crate) outbound: Option<Outbound>,
    /// What is kept of every event.
    pub(crate) recorder: Option<Recorder>,
    /// By shard and stream: what is to be counted.
    pub(crate) intakes: Vec<Vec<Intake>>,
    /// By stream: events that met its condition.
    pub(crate) matched: Vec<u64>,
    pub(crate) rejects: Vec<Reject>,
    /// Each event's time and the largest one before it in the piece.
    times: Vec<(Micros, Micros)>,
    /// The largest event time in the piece.
    pub(crate) newest: Micros,
}

impl Lane {
    pub(crate) fn new(
        checks: Checks,
        reader: EventReader,
        conditions: Arc<[Matcher]>,
        streams: Arc<[StreamSpec]>,
        keyring: Keyring,
        (share, outbound, recorder): (Option<Share>, Option<Outbound>, Option<Recorder>),
    ) -> Self {
        Self {
            checks,
            reader,
            met: vec![false; conditions.len()],
            conditions,
            intakes: (0..SHARDS).map(|_| streams.iter().map(|_| Intake::default()).collect()).collect(),
            matched: vec![0; streams.len()],
            streams,
            keyring,
            share,
            outbound,
            recorder,
            rejects: Vec::new(),
            times: Vec::new(),
            newest: Micros::MIN,
        }
    }

    /// Reads a piece. `events` gets the bytes of each record that is an event; none later than `latest` is. What
    /// `resume` says was counted before a restart is not laid out again.
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
                    let taking = Taking {
                        event: &event,
                        at: events.len(),
                        time,
                        newest: self.newest,
                        position: record.position,
                        met: &self.met,
                        keyring: &self.keyring,
                        resume,
                        share: self.share,
                    };
                    for (at, stream) in self.streams.iter().enumerate() {
                        if self.met[stream.condition] {
                            self.matched[at] += 1;
                            stream.take_in(&taking, at, &mut self.intakes);
                        }
                    }
                    if let Some(outbound) = &mut self.outbound {
                        outbound.take(&event, record.position, &self.met, &self.keyring);
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

    /// Events of the piece, and how many of them came after the watermark had passed them.
    pub(crate) fn tally(&self, clock: StreamClock) -> (u64, u64) {
        let late = self.times.iter().filter(|&&(time, newest)| time < clock.watermark_after(newest)).count();
        (self.times.len() as u64, late as u64)
    }
}
