//! Source positions from which events are counted after a restore.
//!
//! The parts of a snapshot (one per shard and keyed stream) are saved one after another, so each reflects the source up
//! to its own position. The source is replayed from the position at which the snapshot began, and each part skips the
//! events before its own.

/// For one source stream, the first position to count in each snapshot part.
#[derive(Debug)]
pub(crate) struct Resume {
    /// Position by shard and keyed stream.
    from: Vec<Vec<u64>>,
    highest: u64,
}

impl Resume {
    pub(crate) fn new(from: Vec<Vec<u64>>) -> Self {
        Self { highest: from.iter().flatten().copied().max().unwrap_or(0), from }
    }

    /// Whether every part counts the events from `position` on.
    pub(crate) fn is_over(&self, position: u64) -> bool {
        position >= self.highest
    }

    /// Position of the first event to count in a part.
    #[inline]
    pub(crate) fn from(&self, shard: usize, stream: usize) -> u64 {
        self.from[shard][stream]
    }
}
