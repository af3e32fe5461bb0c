//! Repartitioning: forwarding events to the engines that count their groups.
//!
//! A rule may group by something other than the key of the source's partitions. The events of such a group come from
//! several source partitions, so the engine of each source partition forwards them to the partition that the group's
//! fingerprint selects, and one engine counts each of those partitions. An event is forwarded as a JSON object with
//! the fields that such rules use, under their own names and with their values, so it reads the same at both ends.
//!
//! Events are packed into *repartition batches*: for each event its source position and its length (little-endian),
//! then its bytes. A receiver drops duplicates by position, so each event counts once even if a batch is delivered
//! twice.

use crate::decode::record::Record;
use crate::event::field::{Event, FieldId, FieldTable};
use crate::foundation::fingerprint::Fingerprinter;
use crate::foundation::partition::partition_of;
use crate::keyed::StreamSpec;
use crate::plan::{Plan, PlanError};
use smallvec::SmallVec;
use std::collections::BTreeSet;
use std::sync::Arc;
use thiserror::Error;

/// Size at which a batch is closed, in bytes.
const BATCH_BYTES: usize = 256 << 10;

/// Events from one source for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepartitionBatch {
    /// Destination partition.
    pub partition: u32,
    /// Source position of the first event.
    pub first: u64,
    /// Encoded events.
    pub bytes: Vec<u8>,
}

/// The bytes are not a repartition batch.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("byte {0} of the repartition batch: the event is truncated")]
pub struct RepartitionBatchError(usize);

/// Collects a worker's events for other engines.
#[derive(Debug, Clone)]
pub(crate) struct Outbound {
    streams: Arc<[StreamSpec]>,
    /// Forwarded fields, each with its JSON key.
    fields: Arc<[(Vec<u8>, FieldId)]>,
    partitions: u32,
    /// JSON of the current event, and its destinations.
    json: Vec<u8>,
    wanted_by: SmallVec<[u32; 4]>,
    /// Per partition: the batch being filled.
    open: Vec<Option<RepartitionBatch>>,
    full: Vec<RepartitionBatch>,
}

impl Outbound {
    /// Creates the collector if the plan repartitions. `streams` are the keyed streams of the repartitioned rules.
    ///
    /// # Errors
    /// A field cannot be read.
    pub(crate) fn new(
        plan: &Plan,
        streams: Arc<[StreamSpec]>,
        table: &mut FieldTable,
    ) -> Result<Option<Self>, PlanError> {
        let Some(repartition) = &plan.repartition else { return Ok(None) };
        repartition.check()?;
        let mut names = BTreeSet::from(["time", "actor", "subject"]);
        for rule in &repartition.rules {
            names.extend(rule.deciding_fields().into_iter().chain(rule.counted_field()));
        }
        let field = |name: &str| {
            let key = format!("{}:", serde_json::Value::from(name)).into_bytes();
            Ok((key, table.id(name)?))
        };
        let fields = names.into_iter().map(field).collect::<Result<Vec<_>, PlanError>>()?;
        Ok(Some(Self {
            streams,
            fields: fields.into(),
            partitions: repartition.partitions,
            json: Vec::new(),
            wanted_by: SmallVec::new(),
            open: vec![None; repartition.partitions as usize],
            full: Vec::new(),
        }))
    }

    /// Forwards an event to every partition that counts it. `met` holds the result of every condition.
    pub(crate) fn take(
        &mut self,
        event: &Event<'_>,
        position: u64,
        met: &[bool],
        fingerprinter: &Fingerprinter,
    ) {
        self.wanted_by.clear();
        for stream in self.streams.iter().filter(|stream| met[stream.condition]) {
            stream.for_each_group(event, met, fingerprinter, &mut |fingerprint| {
                let partition = partition_of(fingerprint, self.partitions);
                if !self.wanted_by.contains(&partition) {
                    self.wanted_by.push(partition);
                }
            });
        }
        if self.wanted_by.is_empty() {
            return;
        }
        self.json.clear();
        self.json.push(b'{');
        for (key, field) in &*self.fields {
            let before = self.json.len();
            if before > 1 {
                self.json.push(b',');
            }
            self.json.extend_from_slice(key);
            if !event.write(*field, &mut self.json) {
                self.json.truncate(before);
            }
        }
        self.json.push(b'}');
        for &partition in &self.wanted_by {
            let open = &mut self.open[partition as usize];
            let repartition_batch = open.get_or_insert_with(|| RepartitionBatch {
                partition,
                first: position,
                bytes: Vec::new(),
            });
            repartition_batch.bytes.extend_from_slice(&position.to_le_bytes());
            repartition_batch.bytes.extend_from_slice(&(self.json.len() as u32).to_le_bytes());
            repartition_batch.bytes.extend_from_slice(&self.json);
            if repartition_batch.bytes.len() >= BATCH_BYTES {
                self.full.extend(open.take());
            }
        }
    }

    /// Takes the batches since the last call; those for one partition are in order.
    pub(crate) fn send(&mut self, repartition_batches: &mut Vec<RepartitionBatch>) {
        repartition_batches.append(&mut self.full);
        repartition_batches.extend(self.open.iter_mut().filter_map(Option::take));
    }
}

/// Decodes the events of a batch.
pub(crate) fn unpack(bytes: &[u8]) -> Result<Vec<Record<'_>>, RepartitionBatchError> {
    let mut records = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let cut_short = RepartitionBatchError(bytes.len() - rest.len());
        let (record, after) = unpack_one(rest).ok_or(cut_short)?;
        records.push(record);
        rest = after;
    }
    Ok(records)
}

fn unpack_one(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let (position, rest) = bytes.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((Record::new(u64::from_le_bytes(*position), value), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncated_batch_is_rejected() {
        let mut bytes = 7_u64.to_le_bytes().to_vec();
        bytes.extend_from_slice(&2_u32.to_le_bytes());
        bytes.extend_from_slice(b"{}");
        assert_eq!(unpack(&bytes), Ok(vec![Record::new(7, b"{}")]));
        for end in 1..bytes.len() {
            assert_eq!(unpack(&bytes[..end]), Err(RepartitionBatchError(0)));
        }
        assert_eq!(unpack(b""), Ok(vec![]));
    }
}
