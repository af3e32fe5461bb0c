//! A shard: a share of every stream's groups, counted by one thread.
//!
//! Which shard a group is in follows from its fingerprint, so shards have nothing in common, and any number of
//! them comes to the same findings.

use crate::field::EventReader;
use crate::finding::Change;
use crate::key::Keyring;
use crate::keyed::{Intake, KeyedStream, Names};
use crate::time::Micros;
use crate::watermark::StreamClock;

#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) streams: Vec<KeyedStream>,
    /// For the names of groups whose findings open.
    reader: EventReader,
    keyring: Keyring,
}

/// What a lane read, as a shard sees it.
#[derive(Debug)]
pub(crate) struct Piece<'r> {
    /// By stream: what is this shard's.
    pub(crate) intakes: Vec<Intake>,
    /// The piece's events.
    pub(crate) events: &'r [&'r [u8]],
    /// The clock as it stood before the piece.
    pub(crate) clock: StreamClock,
}

impl Shard {
    pub(crate) fn new(streams: Vec<KeyedStream>, reader: EventReader, keyring: Keyring) -> Self {
        Self { streams, reader, keyring }
    }

    /// Counts the pieces of a batch, in order.
    pub(crate) fn count(&mut self, pieces: &mut [Piece<'_>]) {
        for (at, stream) in self.streams.iter_mut().enumerate() {
            for piece in &mut *pieces {
                let mut names =
                    Names { events: piece.events, reader: &mut self.reader, keyring: self.keyring };
                stream.count(&mut piece.intakes[at], piece.clock, &mut names);
            }
        }
    }

    /// Brings everything up to the watermark and tells what came of it.
    pub(crate) fn settle(&mut self, watermark: Micros, changes: &mut Vec<Change>) {
        for stream in &mut self.streams {
            stream.settle(watermark, changes);
        }
    }
}
