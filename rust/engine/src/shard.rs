//! A shard: a share of every stream's groups, counted by one thread.
//!
//! Which shard a group is in follows from its fingerprint, so shards have nothing in common, and any number of
//! them comes to the same findings.

use crate::detect::Detector;
use crate::field::EventReader;
use crate::finding::Change;
use crate::key::Keyring;
use crate::keyed::{Intake, KeyedStream, Names};
use crate::shedding::{Ages, Forgotten};
use crate::time::Micros;
use crate::watermark::StreamClock;
use std::ops::Range;

/// How many shards there are: as many threads at most count at once, and a snapshot's parts are that much smaller. With four
/// nothing is slower than with one; with sixteen, on one thread, everything is by a tenth.
pub(crate) const SHARDS: usize = 4;

#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) streams: Vec<KeyedStream>,
    /// For the names of groups whose findings open.
    pub(crate) reader: EventReader,
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

impl Piece<'_> {
    /// The lowest watermark once some of what is to be counted next has been.
    pub(crate) fn next_watermark(&self) -> Option<Micros> {
        self.intakes.iter().filter_map(|intake| intake.next_watermark(self.clock)).min()
    }
}

impl Shard {
    pub(crate) fn new(streams: Vec<KeyedStream>, reader: EventReader, keyring: Keyring) -> Self {
        Self { streams, reader, keyring }
    }

    /// Counts the pieces of a batch, in order, as far as it leaves the watermark before `until`.
    pub(crate) fn count(&mut self, pieces: &mut [Piece<'_>], until: Option<Micros>) {
        for (at, stream) in self.streams.iter_mut().enumerate() {
            for piece in &mut *pieces {
                let mut names =
                    Names::Events { events: piece.events, reader: &mut self.reader, keyring: self.keyring };
                stream.count(&mut piece.intakes[at], piece.clock, until, &mut names);
            }
        }
    }

    /// Whether [`Self::sift`] has anything to do.
    pub(crate) fn has_sieves(&self) -> bool {
        self.streams.iter().any(KeyedStream::has_sieve)
    }

    /// Takes out of the pieces of a batch, in order, what does not count.
    pub(crate) fn sift(&mut self, pieces: &mut [Piece<'_>]) {
        for (at, stream) in self.streams.iter_mut().enumerate() {
            for piece in &mut *pieces {
                stream.sift(&mut piece.intakes[at], &self.keyring);
            }
        }
    }

    pub(crate) fn used_bytes(&self) -> usize {
        self.streams.iter().map(KeyedStream::used_bytes).sum()
    }

    /// Adds up by age what [`Self::forget_before`] would free.
    pub(crate) fn ages(&self, ages: &mut Ages) {
        self.streams.iter().for_each(|stream| stream.ages(ages));
    }

    /// Forgets what was last seen before `time`.
    pub(crate) fn forget_before(&mut self, time: Micros, forgotten: &mut [Forgotten]) {
        self.streams.iter_mut().for_each(|stream| stream.forget_before(time, forgotten));
    }

    /// Where rules with a baseline are: in which stream, which window, and which of its rules.
    pub(crate) fn following(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        self.streams.iter().enumerate().flat_map(|(stream, keyed)| {
            keyed.windows.iter().enumerate().flat_map(move |(window, one)| {
                let detectors = one.detectors.iter().enumerate();
                let following = detectors.filter(|(_, detector)| detector.profiles().is_some());
                following.map(move |(at, _)| (stream, window, at))
            })
        })
    }

    pub(crate) fn detector(&self, (stream, window, at): (usize, usize, usize)) -> &Detector {
        &self.streams[stream].windows[window].detectors[at]
    }

    pub(crate) fn detector_mut(&mut self, (stream, window, at): (usize, usize, usize)) -> &mut Detector {
        &mut self.streams[stream].windows[window].detectors[at]
    }

    /// Brings some streams up to the watermark and tells what came of it.
    pub(crate) fn settle(&mut self, streams: Range<usize>, watermark: Micros, changes: &mut Vec<Change>) {
        for stream in &mut self.streams[streams] {
            stream.settle(watermark, changes);
        }
    }
}
