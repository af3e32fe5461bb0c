//! Batch headers: the batches of a fetch and their properties.

use thiserror::Error;

/// Length of a header, in bytes.
pub(super) const SIZE: usize = 61;
/// Bytes of offset and length, which the length field does not include.
const FRAME: usize = 12;
/// First byte covered by the checksum: the attributes.
const CHECKED_FROM: usize = 21;

/// The fields of a batch header that a reader needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) base_offset: i64,
    leader_epoch: i32,
    crc: u32,
    attributes: u16,
    last_offset_delta: i32,
    max_timestamp: i64,
    pub(super) producer_id: i64,
    pub(super) count: i32,
}

/// Compression of a batch's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
    Unknown(u8),
}

/// The bytes are not a sequence of record batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FramingError {
    /// The length field is smaller than a header.
    #[error("the batch at byte {at} of the fetch has the invalid length {length}")]
    Length {
        /// Byte position in the fetch.
        at: usize,
        /// Value of the length field.
        length: i32,
    },
    /// The message format is older than v2.
    #[error("the batch at byte {at} of the fetch has message format {magic}")]
    Format {
        /// Byte position in the fetch.
        at: usize,
        /// Number of the format.
        magic: i8,
    },
}

/// A run of complete batches of a fetch, as described by their headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchedPiece {
    /// End in the fetch; it starts at the end of the previous piece.
    pub end: usize,
    /// Offset after the piece.
    pub next_offset: i64,
    /// Leader epoch of the last batch.
    pub leader_epoch: i32,
    /// Number of records, control records included.
    pub records: u64,
    /// Largest timestamp of a record, in epoch milliseconds as given by its producer or the broker; -1 if there is
    /// none.
    pub latest_ms: i64,
}

/// Splits a fetch between batches into pieces of at least `least` bytes; the last may be shorter. Returns no pieces
/// if no batch is complete.
///
/// # Errors
/// A batch is not of format v2.
pub fn fetched_pieces(bytes: &[u8], least: usize) -> Result<Vec<FetchedPiece>, FramingError> {
    let mut found: Vec<FetchedPiece> = Vec::new();
    let (mut end, mut size) = (0, usize::MAX);
    for batch in Batches::new(bytes) {
        let (header, batch) = batch?;
        if size >= least {
            found.push(FetchedPiece { end, next_offset: 0, leader_epoch: 0, records: 0, latest_ms: -1 });
            size = 0;
        }
        size += batch.len();
        end += batch.len();
        if let Some(piece) = found.last_mut() {
            piece.end = end;
            piece.next_offset = header.last_offset().saturating_add(1);
            piece.leader_epoch = header.leader_epoch;
            piece.records += u64::from(header.count.max(0).cast_unsigned());
            piece.latest_ms = piece.latest_ms.max(header.max_timestamp);
        }
    }
    Ok(found)
}

/// The complete batches of a fetch with their headers. Ends at a truncated batch or after an error.
pub(super) struct Batches<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Batches<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<(Header, &'a [u8]), FramingError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..)?;
        let length = i32::from_be_bytes(*rest.get(8..)?.first_chunk()?);
        let magic = i8::from_be_bytes([*rest.get(16)?]);
        let size = usize::try_from(length).ok().map(|length| length + FRAME);
        let fault = if magic != 2 {
            Some(FramingError::Format { at: self.at, magic })
        } else if size.is_none_or(|size| size < SIZE) {
            Some(FramingError::Length { at: self.at, length })
        } else {
            None
        };
        if let Some(fault) = fault {
            self.at = self.bytes.len();
            return Some(Err(fault));
        }
        let batch = rest.get(..size?)?;
        self.at += batch.len();
        batch.first_chunk().map(|header| Ok((Header::read(header), batch)))
    }
}

fn part<const N: usize>(bytes: &[u8; SIZE], at: usize) -> [u8; N] {
    std::array::from_fn(|offset| bytes[at + offset])
}

impl Header {
    fn read(bytes: &[u8; SIZE]) -> Self {
        Self {
            base_offset: i64::from_be_bytes(part(bytes, 0)),
            leader_epoch: i32::from_be_bytes(part(bytes, 12)),
            crc: u32::from_be_bytes(part(bytes, 17)),
            attributes: u16::from_be_bytes(part(bytes, CHECKED_FROM)),
            last_offset_delta: i32::from_be_bytes(part(bytes, 23)),
            max_timestamp: i64::from_be_bytes(part(bytes, 35)),
            producer_id: i64::from_be_bytes(part(bytes, 43)),
            count: i32::from_be_bytes(part(bytes, 57)),
        }
    }

    pub(super) fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// Whether the batch has the checksum in its header.
    pub(super) fn checks_out(&self, batch: &[u8]) -> bool {
        crc32c::crc32c(&batch[CHECKED_FROM..]) == self.crc
    }

    pub(super) fn compression(&self) -> Compression {
        match self.attributes & 7 {
            0 => Compression::None,
            1 => Compression::Gzip,
            2 => Compression::Snappy,
            3 => Compression::Lz4,
            4 => Compression::Zstd,
            other => Compression::Unknown(other as u8),
        }
    }

    pub(super) fn is_transactional(&self) -> bool {
        self.attributes & 0x10 != 0
    }

    /// Whether it contains a transaction marker instead of records.
    pub(super) fn is_control(&self) -> bool {
        self.attributes & 0x20 != 0
    }
}
