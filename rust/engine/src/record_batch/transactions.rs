//! Which batches `read_committed` does not see (KIP-98).
//!
//! With a fetch the broker lists the aborted transactions it touches: a producer and the offset its first
//! record has. From there on the producer's transactional batches are hidden, until its abort marker.

use super::header::Header;
use super::records::Bytes;

/// An aborted transaction, as a fetch response lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aborted {
    /// The producer.
    pub producer_id: i64,
    /// The offset of its first record in the transaction.
    pub first_offset: i64,
}

/// The aborted transactions around the present batch. A broker lists few, so a scan beats a set.
#[derive(Debug)]
pub(super) struct Transactions {
    /// Those that begin further on, the next one last.
    ahead: Vec<Aborted>,
    /// Producers whose batches are hidden now.
    hidden: Vec<i64>,
}

impl Transactions {
    pub(super) fn new(listed: &[Aborted]) -> Self {
        let mut ahead = listed.to_vec();
        ahead.sort_unstable_by_key(|one| std::cmp::Reverse(one.first_offset));
        Self { ahead, hidden: Vec::new() }
    }

    /// Moves on to a batch and says whether it belongs to an aborted transaction.
    pub(super) fn hides(&mut self, header: &Header, body: &[u8]) -> bool {
        if header.producer_id < 0 {
            return false;
        }
        while let Some(begun) = self.ahead.pop_if(|one| one.first_offset <= header.last_offset()) {
            self.hidden.push(begun.producer_id);
        }
        if header.is_control() && is_abort_marker(body) {
            self.hidden.retain(|&producer| producer != header.producer_id);
        }
        header.is_transactional() && !header.is_control() && self.hidden.contains(&header.producer_id)
    }
}

/// Whether a control batch says that the transaction was aborted: its record's key is a version and a type, 0
/// for abort and 1 for commit.
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
