//! Kafka record batches, message format v2, as returned by a fetch from one partition.
//!
//! A fetch is a sequence of batches, each with a 61-byte header and a body that may be compressed; the last may be
//! truncated. Checksums (CRC-32C) are verified, control batches and batches of aborted transactions are skipped, and
//! bodies are decompressed, a few at a time, into one buffer that stays in cache. The layout is described in Kafka's
//! documentation under "Record Batch", aborted transactions in KIP-98.

mod header;
mod records;
mod transactions;
mod unpack;

use crate::decode::record::Record;
use crate::decode::reject::Reject;
use header::{Batches, Header};
use records::{Records, corrupt};
use transactions::Transactions;
use unpack::{Body, Unpacker};

pub use header::{FetchedPiece, FramingError, fetched_pieces};
pub use transactions::Aborted;

/// The result of a fetch from one partition.
#[derive(Debug, Clone, Copy)]
pub struct Fetched<'a> {
    /// Record batches; the last may be truncated.
    pub bytes: &'a [u8],
    /// Requested offset. Earlier records of the first batch are skipped.
    pub position: u64,
    /// For `read_committed`: aborted transactions as listed by the broker. `None` reads all records.
    pub aborted: Option<&'a [Aborted]>,
}

impl<'a> Fetched<'a> {
    /// The batches with records for a reader, still compressed.
    pub(crate) fn sealed(self) -> Vec<Sealed<'a>> {
        let mut transactions = self.aborted.map(Transactions::new);
        let batches =
            Batches::new(self.bytes).map_while(Result::ok).map(|(header, batch)| Sealed { header, batch });
        let wanted = batches.filter(|sealed| sealed.header.last_offset() >= self.position as i64);
        wanted.filter(|sealed| !sealed.is_hidden(transactions.as_mut())).collect()
    }
}

/// A compressed batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sealed<'f> {
    header: Header,
    batch: &'f [u8],
}

impl Sealed<'_> {
    /// Number of records according to the header.
    pub(crate) fn records(&self) -> usize {
        usize::try_from(self.header.count).unwrap_or(0)
    }

    fn body(&self) -> &[u8] {
        &self.batch[header::SIZE..]
    }

    /// Whether a reader must skip the batch: a transaction marker, or part of an aborted transaction.
    fn is_hidden(&self, transactions: Option<&mut Transactions>) -> bool {
        // A damaged marker ends no transaction; it is reported when the batch is read.
        if self.header.is_control() && !self.header.checks_out(self.batch) {
            return false;
        }
        transactions.is_some_and(|known| known.hides(&self.header, self.body())) || self.header.is_control()
    }
}

/// Decompresses batches and reads their records. The buffer is reused.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    unpacker: Unpacker,
    /// For each batch, its body or the fault in it.
    bodies: Vec<Result<Body, String>>,
}

impl Decoder {
    /// Verifies and decompresses batches: the first, and further ones until the buffer is full. Returns their number.
    pub(crate) fn unpack(&mut self, batches: &[Sealed<'_>]) -> usize {
        self.unpacker.clear();
        self.bodies.clear();
        for sealed in batches {
            if self.unpacker.is_full() {
                break;
            }
            self.bodies.push(if sealed.header.checks_out(sealed.batch) {
                self.unpacker.unpack(sealed.header.compression(), sealed.body(), sealed.records())
            } else {
                Err("the batch fails its checksum".to_owned())
            });
        }
        self.bodies.len()
    }

    /// The records from `position` on of the batches last decompressed; a batch that cannot be read yields one
    /// rejection.
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
