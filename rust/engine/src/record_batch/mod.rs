//! Kafka record batches, message format v2, as a broker sends them: what a fetch of one partition holds.
//!
//! A fetch is a run of batches, each a 61-byte header and a body of records, packed or not; the last may be cut
//! off. Batches are checked (CRC-32C), control batches and those of aborted transactions are passed over, and
//! packed bodies are unpacked a few at a time into one buffer that stays in cache. The layout is Kafka's
//! documentation, "Record Batch"; what a reader has to pass over is KIP-98's.

mod header;
mod records;
mod transactions;
mod unpack;

use crate::record::Record;
use crate::reject::{Reason, Reject};
use header::{Batches, Header};
use records::Records;
use transactions::Transactions;
use unpack::Unpacker;

pub use header::{Extent, FramingError, extent};
pub use transactions::Aborted;

/// What a fetch of one partition brought.
#[derive(Debug, Clone, Copy)]
pub struct Fetched<'a> {
    /// Record batches one after the other; the last may be cut off.
    pub bytes: &'a [u8],
    /// The offset that was asked for: records before it are another fetch's.
    pub position: u64,
    /// For `read_committed`: the transactions that were aborted, as the broker listed them. `None` reads all.
    pub aborted: Option<&'a [Aborted]>,
}

/// Unpacked bytes that make a run: enough that fixed costs vanish, few enough for the second-level cache.
const RUN_BYTES: usize = 256 << 10;

/// Takes fetches apart. Its buffers are reused from fetch to fetch.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    unpacker: Unpacker,
}

impl Decoder {
    /// Hands the records of a fetch to `take` in runs: some batches' records, and what could not be read.
    pub(crate) fn each_run<'f>(&mut self, fetched: Fetched<'f>, mut take: impl FnMut(Run<'_, 'f>)) {
        let mut transactions = fetched.aborted.map(Transactions::new);
        let mut batches = Batches::new(fetched.bytes);
        let mut run = Vec::new();
        let mut more = true;
        while more {
            run.clear();
            self.unpacker.clear();
            let mut bytes = 0;
            while bytes < RUN_BYTES {
                let Some(Ok((header, batch))) = batches.next() else {
                    more = false;
                    break;
                };
                if header.last_offset() < fetched.position as i64 {
                    continue;
                }
                bytes += batch.len();
                let filled = self.unpacker.filled();
                let part = self.part(&header, batch, transactions.as_mut());
                bytes += self.unpacker.filled() - filled;
                run.extend(part);
            }
            take(Run { parts: &run, unpacked: self.unpacker.bytes(), position: fetched.position });
        }
    }

    /// What a batch contributes: nothing if it is not for readers.
    fn part<'f>(
        &mut self,
        header: &Header,
        batch: &'f [u8],
        transactions: Option<&mut Transactions>,
    ) -> Option<Part<'f>> {
        let refuse = |detail: String| {
            let detail = format!("{} records from offset {}: {detail}", header.count, header.base_offset);
            Some(Part::Refused { position: header.base_offset as u64, detail, batch })
        };
        if !header.checks_out(batch) {
            return refuse("the batch fails its checksum".to_owned());
        }
        let body = &batch[header::SIZE..];
        if transactions.is_some_and(|known| known.hides(header, body)) || header.is_control() {
            return None;
        }
        match self.unpacker.unpack(header.codec(), body) {
            Ok(body) => Some(Part::Readable { base: header.base_offset, count: header.count, body, batch }),
            Err(detail) => refuse(detail),
        }
    }
}

/// Where a batch's records lie.
#[derive(Debug, Clone)]
enum Body<'f> {
    /// In the fetch itself.
    Plain(&'f [u8]),
    /// In the buffer of unpacked bytes.
    Unpacked(std::ops::Range<usize>),
}

#[derive(Debug)]
enum Part<'f> {
    Readable { base: i64, count: i32, body: Body<'f>, batch: &'f [u8] },
    Refused { position: u64, detail: String, batch: &'f [u8] },
}

/// Some batches of a fetch, unpacked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run<'r, 'f> {
    parts: &'r [Part<'f>],
    unpacked: &'r [u8],
    position: u64,
}

impl<'r, 'f: 'r> Run<'r, 'f> {
    /// The records from the position on, in order; for a batch that cannot be read, one rejection.
    pub(crate) fn records(self) -> impl Iterator<Item = Result<Record<'r>, Reject>> {
        self.parts.iter().flat_map(move |part| {
            let (records, refused) = match part {
                Part::Readable { base, count, body, batch } => {
                    let body = match body {
                        Body::Plain(body) => body,
                        Body::Unpacked(range) => &self.unpacked[range.clone()],
                    };
                    (Some(Records::new(*base, *count, body, batch)), None)
                }
                Part::Refused { position, detail, batch } => {
                    (None, Some(Err(corrupt(*position, detail.clone(), batch))))
                }
            };
            let position = self.position;
            let wanted = move |record: &Result<Record<'r>, Reject>| {
                record.as_ref().map_or(true, |record| record.position >= position)
            };
            records.into_iter().flatten().filter(wanted).chain(refused)
        })
    }
}

fn corrupt(position: u64, detail: String, batch: &[u8]) -> Reject {
    Reject { position, reason: Reason::CorruptBatch, detail, value: batch.into() }
}
