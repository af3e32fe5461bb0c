//! Batches that `read_committed` skips (KIP-98).
//!
//! The broker lists the aborted transactions of a fetch by producer and first offset. From that offset on, the
//! producer's transactional batches are skipped until its abort marker.

use super::header::Header;
use super::records::Bytes;

/// An aborted transaction, as listed in a fetch response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aborted {
    /// Producer id.
    pub producer_id: i64,
    /// Offset of its first record in the transaction.
    pub first_offset: i64,
}

/// Aborted transactions relative to the current batch. Brokers list few, so a linear scan is faster than a set.
#[derive(Debug)]
pub(super) struct Transactions {
    /// Transactions that start later, the next one last.
    ahead: Vec<Aborted>,
    /// Producers whose batches are being skipped.
    hidden: Vec<i64>,
}

impl Transactions {
    pub(super) fn new(listed: &[Aborted]) -> Self {
        let mut ahead = listed.to_vec();
        ahead.sort_unstable_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
        Self { ahead, hidden: Vec::new() }
    }

    /// Advances to a batch and returns whether it belongs to an aborted transaction.
    pub(super) fn hides(&mut self, header: &Header, body: &[u8]) -> bool {
        if header.producer_id < 0 {
            return false;
        }
        while let Some(begun) =
            self.ahead.pop_if(|transaction| transaction.first_offset <= header.last_offset())
        {
            self.hidden.push(begun.producer_id);
        }
        if header.is_control() && is_abort_marker(body) {
            self.hidden.retain(|&producer| producer != header.producer_id);
        }
        header.is_transactional() && !header.is_control() && self.hidden.contains(&header.producer_id)
    }
}

/// Whether a control batch marks an abort: the key of its record is a version and a type, 0 for abort, 1 for commit.
fn is_abort_marker(body: &[u8]) -> bool {
    let key = || {
        let mut bytes = Bytes(body);
        bytes.varint()?;
        bytes.take(1)?;
        bytes.varint()?;
        bytes.varint()?;
        bytes.nullable()
    };
    key().is_some_and(|key| key.get(2..4) == Some(&[0, 0]))
}
