//! Records of one decompressed batch.

use crate::decode::record::Record;
use crate::decode::reject::{Reason, Reject};

/// Reads numbers and byte strings from the front of a slice. Every method returns `None` if they are malformed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// Reads a zigzag varint of at most 64 bits (Protocol Buffers encoding).
    #[inline]
    pub(super) fn varint(&mut self) -> Option<i64> {
        let mut value = 0_u64;
        for (at, &byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7F) << (7 * at);
            if byte < 0x80 {
                self.0 = &self.0[at + 1..];
                return Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()));
            }
        }
        None
    }

    /// Reads a length and as many bytes. Kafka's null (length −1) is read as empty.
    #[inline]
    pub(super) fn nullable(&mut self) -> Option<&'a [u8]> {
        match self.varint()? {
            -1 => Some(&[]),
            length => self.take(usize::try_from(length).ok()?),
        }
    }
}

/// The records of a batch, in order. A malformed record ends it with one rejection for the rest.
pub(super) struct Records<'a> {
    base: i64,
    left: i32,
    bytes: Bytes<'a>,
    batch: &'a [u8],
}

impl<'a> Records<'a> {
    /// `batch` is the batch as fetched, kept in a rejection.
    pub(super) fn new(base: i64, count: i32, body: &'a [u8], batch: &'a [u8]) -> Self {
        Self { base, left: count, bytes: Bytes(body), batch }
    }

    /// Reads one record: length, attributes, time delta, offset delta, key, value. Record headers are skipped.
    #[inline]
    fn read(&mut self) -> Option<Record<'a>> {
        let length = usize::try_from(self.bytes.varint()?).ok()?;
        let mut record = Bytes(self.bytes.take(length)?);
        record.take(1)?;
        record.varint()?;
        let offset = self.base.checked_add(record.varint()?)?;
        record.nullable()?;
        let value = record.nullable()?;
        Some(Record::new(u64::try_from(offset).ok()?, value))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Box<Reject>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            return None;
        }
        if let Some(record) = self.read() {
            self.left -= 1;
            return Some(Ok(record));
        }
        let detail =
            format!("the last {} records of the batch from offset {} are malformed", self.left, self.base);
        self.left = 0;
        Some(Err(Box::new(corrupt(self.base.cast_unsigned(), detail, self.batch))))
    }
}

/// Rejection of a whole batch, or of the rest of one.
pub(super) fn corrupt(position: u64, detail: String, batch: &[u8]) -> Reject {
    Reject { position, reason: Reason::CorruptBatch, detail, value: batch.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_of_every_length() {
        for (bytes, value) in [
            (&[0][..], Some(0)),
            (&[1], Some(-1)),
            (&[2], Some(1)),
            (&[0xFE, 0x01], Some(127)),
            (&[0xFF, 0xFF, 0xFF, 0xFF, 0x0F], Some(i64::from(i32::MIN))),
            (&[0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], Some(i64::MAX)),
            (&[0x80], None),
            (&[0x80; 11], None),
            (&[], None),
        ] {
            assert_eq!(Bytes(bytes).varint(), value, "{bytes:x?}");
        }
    }
}
