//! Repartitioning: events on their way to the engines that count their groups.
//!
//! Where a rule's groups are not those of the source's partitions, a group's events come from several of these. So the
//! engine of each source partition hands on what such rules need, to the share each group is in by its fingerprint; and the
//! engine of a share counts its groups and no others. An event is handed on as a JSON object of the fields such rules name,
//! under these names and with the values they had, so it reads the same at both ends.
//!
//! Events travel in *parcels*: of each its position in its source, its length (little-endian) and its bytes. Whoever is sent a parcel twice
//! knows by the positions, and counts each event once.

use crate::field::{Event, FieldId, FieldTable};
use crate::key::{Fingerprint, Keyring};
use crate::keyed::StreamSpec;
use crate::plan::{Plan, PlanError, Share};
use crate::record::Record;
use smallvec::SmallVec;
use std::collections::BTreeSet;
use std::sync::Arc;
use thiserror::Error;

/// A parcel is closed when it has so many bytes.
const PARCEL_BYTES: usize = 256 << 10;

/// Events of one source for one share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// The share they are for.
    pub partition: u32,
    /// The position of the first.
    pub first: u64,
    /// The events.
    pub bytes: Vec<u8>,
}

/// Bytes that are no parcel.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("byte {0} of the parcel: an event is cut short")]
pub struct ParcelError(usize);

impl Share {
    /// Whether a group is in this share.
    #[inline]
    pub(crate) fn has(self, print: Fingerprint) -> bool {
        partition_of(print, self.of) == self.partition
    }
}

/// The share a group is in. Shards go by the lower half of a fingerprint, this by the upper.
#[inline]
fn partition_of(print: Fingerprint, of: u32) -> u32 {
    (((print >> 32) * u64::from(of)) >> 32) as u32
}

/// A lane's events for other engines.
#[derive(Debug, Clone)]
pub(crate) struct Outbound {
    streams: Arc<[StreamSpec]>,
    /// The fields that are handed on: each with its name as a JSON key.
    fields: Arc<[(Vec<u8>, FieldId)]>,
    partitions: u32,
    /// The event at hand, and the shares it is for.
    json: Vec<u8>,
    wanted_by: SmallVec<[u32; 4]>,
    /// By share: the parcel being filled.
    open: Vec<Option<Parcel>>,
    full: Vec<Parcel>,
}

impl Outbound {
    /// What a plan wants handed on, if anything; names the fields. `streams` are the keyed streams of the rules it is for.
    ///
    /// # Errors
    /// Fields that cannot be read.
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

    /// Hands an event on to every share that counts it. `met` says of each condition whether it meets it.
    pub(crate) fn take(&mut self, event: &Event<'_>, position: u64, met: &[bool], keyring: &Keyring) {
        self.wanted_by.clear();
        for stream in self.streams.iter().filter(|stream| met[stream.condition]) {
            stream.for_each_group(event, met, keyring, &mut |print| {
                let partition = partition_of(print, self.partitions);
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
            let parcel = open.get_or_insert_with(|| Parcel { partition, first: position, bytes: Vec::new() });
            parcel.bytes.extend_from_slice(&position.to_le_bytes());
            parcel.bytes.extend_from_slice(&(self.json.len() as u32).to_le_bytes());
            parcel.bytes.extend_from_slice(&self.json);
            if parcel.bytes.len() >= PARCEL_BYTES {
                self.full.extend(open.take());
            }
        }
    }

    /// The parcels of what was read since the last call; of each share in order.
    pub(crate) fn send(&mut self, parcels: &mut Vec<Parcel>) {
        parcels.append(&mut self.full);
        parcels.extend(self.open.iter_mut().filter_map(Option::take));
    }
}

/// The events of a parcel's bytes.
pub(crate) fn unpack(bytes: &[u8]) -> Result<Vec<Record<'_>>, ParcelError> {
    let mut records = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let cut_short = ParcelError(bytes.len() - rest.len());
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
    fn shares_are_even_and_whole() {
        let prints = (0..6000_u64).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut counts = [0; 6];
        for print in prints {
            let partition = partition_of(print, 6);
            counts[partition as usize] += 1;
            let owners = (0..6).filter(|&partition| Share { partition, of: 6 }.has(print));
            assert_eq!(owners.collect::<Vec<_>>(), [partition]);
        }
        assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
    }

    #[test]
    fn what_is_cut_short_is_no_parcel() {
        let mut bytes = 7_u64.to_le_bytes().to_vec();
        bytes.extend_from_slice(&2_u32.to_le_bytes());
        bytes.extend_from_slice(b"{}");
        assert_eq!(unpack(&bytes), Ok(vec![Record::new(7, b"{}")]));
        for end in 1..bytes.len() {
            assert_eq!(unpack(&bytes[..end]), Err(ParcelError(0)));
        }
        assert_eq!(unpack(b""), Ok(vec![]));
    }
}
