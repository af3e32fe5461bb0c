//! Kafka record batches, message format v2, as a broker sends them: what a fetch of one partition holds.
//!
//! A fetch is a run of batches, each a 61-byte header and a body of records, packed or not; the last may be cut
//! off. Batches are checked (CRC-32C), control batches and those of aborted transactions are passed over, and
//! packed bodies are unpacked some at a time into one buffer that stays in cache. The layout is Kafka's
//! documentation, "Record Batch"; what a reader has to pass over is KIP-98's.

mod header;
mod records;
mod transactions;
mod unpack;

use crate::record::Record;
use crate::reject::{Reason, Reject};
use header::{Batches, Header};
use records::Records;
use std::ops::Range;
use transactions::Transactions;
use unpack::Unpacker;

pub use header::{FramingError, Piece, pieces};
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

impl<'a> Fetched<'a> {
    /// The batches that hold records for a reader, still packed.
    pub(crate) fn sealed(self) -> Vec<Sealed<'a>> {
        let mut transactions = self.aborted.map(Transactions::new);
        let batches =
            Batches::new(self.bytes).map_while(Result::ok).map(|(header, batch)| Sealed { header, batch });
        let wanted = batches.filter(|sealed| sealed.header.last_offset() >= self.position as i64);
        wanted.filter(|sealed| !sealed.is_hidden(transactions.as_mut())).collect()
    }
}

/// A batch that has not been unpacked yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sealed<'f> {
    header: Header,
    batch: &'f [u8],
}

impl Sealed<'_> {
    /// How many records it says it has.
    pub(crate) fn records(&self) -> usize {
        usize::try_from(self.header.count).unwrap_or(0)
    }

    fn body(&self) -> &[u8] {
        &self.batch[header::SIZE..]
    }

    /// Whether it is not for readers: a transaction's end, or what was done in an aborted one.
    fn is_hidden(&self, transactions: Option<&mut Transactions>) -> bool {
        // A damaged batch is whoever reads it's to report; it ends no transaction.
        if self.header.is_control() && !self.header.checks_out(self.batch) {
            return false;
        }
        transactions.is_some_and(|known| known.hides(&self.header, self.body())) || self.header.is_control()
    }
}

/// Unpacks batches, and reads their records. Its buffer is used again for the next ones.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    unpacker: Unpacker,
    /// Of each batch: its body, or what is wrong with it.
    bodies: Vec<Result<Body, String>>,
}

/// Where a batch's records lie.
#[derive(Debug, Clone)]
enum Body {
    /// In the batch itself.
    Plain,
    /// In the buffer of unpacked bytes.
    Unpacked(Range<usize>),
}

impl Decoder {
    /// Checks and unpacks batches, whose records can then be read.
    pub(crate) fn unpack(&mut self, batches: &[Sealed<'_>]) {
        self.unpacker.clear();
        self.bodies.clear();
        for sealed in batches {
            self.bodies.push(if sealed.header.checks_out(sealed.batch) {
                self.unpacker.unpack(sealed.header.codec(), sealed.body())
            } else {
                Err("the batch fails its checksum".to_owned())
            });
        }
    }

    /// The records, from `position` on, of the batches last unpacked; for one that cannot be read, one rejection.
    pub(crate) fn records<'r>(
        &'r self,
        batches: &'r [Sealed<'_>],
        position: u64,
    ) -> impl Iterator<Item = Result<Record<'r>, Box<Reject>>> {
        batches.iter().zip(&self.bodies).flat_map(move |(sealed, body)| {
            let Sealed { header, batch } = sealed;
            let (records, refused) = match body {
                Ok(body) => {
                    let bytes = match body {
                        Body::Plain => sealed.body(),
                        Body::Unpacked(range) => &self.unpacker.bytes()[range.clone()],
                    };
                    (Some(Records::new(header.base_offset, header.count, bytes, batch)), None)
                }
                Err(problem) => {
                    let detail =
                        format!("{} records from offset {}: {problem}", header.count, header.base_offset);
                    (None, Some(Err(Box::new(corrupt(header.base_offset.cast_unsigned(), detail, batch)))))
                }
            };
            let wanted = move |record: &Result<Record<'r>, Box<Reject>>| {
                record.as_ref().map_or(true, |record| record.position >= position)
            };
            records.into_iter().flatten().filter(wanted).chain(refused)
        })
    }
}

fn corrupt(position: u64, detail: String, batch: &[u8]) -> Reject {
    Reject { position, reason: Reason::CorruptBatch, detail, value: batch.into() }
}
