//! Shard: a fixed subset of every stream's groups, counted by one thread at a time.
//!
//! A group's fingerprint determines its shard ([`crate::foundation::partition`]). Shards share no state, so they need
//! no locks and the findings do not depend on how many threads run them.

use crate::detect::Change;
use crate::detect::Detector;
use crate::event::field::EventReader;
use crate::foundation::eviction::{AgeHistogram, EvictedCounts};
use crate::foundation::fingerprint::Fingerprinter;
use crate::foundation::time::Micros;
use crate::foundation::watermark::StreamClock;
use crate::keyed::{GroupNames, KeyedBatch, KeyedStream};
use std::borrow::Cow;
use std::ops::Range;

#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) streams: Vec<KeyedStream>,
    /// Reads events again to name groups whose findings open.
    pub(crate) reader: EventReader,
    fingerprinter: Fingerprinter,
}

/// A worker's chunk, as one shard sees it.
#[derive(Debug)]
pub(crate) struct ShardChunk<'r> {
    /// Routed events of this shard, per stream.
    pub(crate) batches: Vec<KeyedBatch>,
    /// Bytes of the chunk's events.
    pub(crate) events: &'r [Cow<'r, [u8]>],
    /// Clock of the source stream before the chunk.
    pub(crate) clock: StreamClock,
}

impl ShardChunk<'_> {
    /// Lowest watermark after the next event of any stream.
    pub(crate) fn next_watermark(&self) -> Option<Micros> {
        self.batches.iter().filter_map(|batch| batch.next_watermark(self.clock)).min()
    }
}

impl Shard {
    pub(crate) fn new(streams: Vec<KeyedStream>, reader: EventReader, fingerprinter: Fingerprinter) -> Self {
        Self { streams, reader, fingerprinter }
    }

    /// Counts chunks in order until the watermark would reach `until`.
    pub(crate) fn count(&mut self, chunks: &mut [ShardChunk<'_>], until: Option<Micros>) {
        for (at, stream) in self.streams.iter_mut().enumerate() {
            for chunk in &mut *chunks {
                let mut names = GroupNames::Events {
                    events: chunk.events,
                    reader: &mut self.reader,
                    fingerprinter: self.fingerprinter,
                };
                stream.count(&mut chunk.batches[at], chunk.clock, until, &mut names);
            }
        }
    }

    /// Whether [`Self::retain_novel`] does anything.
    pub(crate) fn has_novelty_filters(&self) -> bool {
        self.streams.iter().any(KeyedStream::has_novelty_filter)
    }

    /// Drops, from chunks in order, the events that are not novel.
    pub(crate) fn retain_novel(&mut self, chunks: &mut [ShardChunk<'_>]) {
        for (at, stream) in self.streams.iter_mut().enumerate() {
            for chunk in &mut *chunks {
                stream.retain_novel(&mut chunk.batches[at], &self.fingerprinter);
            }
        }
    }

    pub(crate) fn used_bytes(&self) -> usize {
        self.streams.iter().map(KeyedStream::used_bytes).sum()
    }

    /// Adds the memory that [`Self::evict_before`] could free to a histogram by age.
    pub(crate) fn add_ages(&self, ages: &mut AgeHistogram) {
        self.streams.iter().for_each(|stream| stream.add_ages(ages));
    }

    /// Evicts groups and values last seen before `time`.
    pub(crate) fn evict_before(&mut self, time: Micros, evicted: &mut [EvictedCounts]) {
        self.streams.iter_mut().for_each(|stream| stream.evict_before(time, evicted));
    }

    /// Location of the baseline rules: stream, window, detector.
    pub(crate) fn baseline_rules(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        self.streams.iter().enumerate().flat_map(|(stream, keyed)| {
            keyed.windows.iter().enumerate().flat_map(move |(index, window)| {
                let detectors = window.detectors.iter().enumerate();
                let baseline_rules = detectors.filter(|(_, detector)| detector.profiles().is_some());
                baseline_rules.map(move |(detector, _)| (stream, index, detector))
            })
        })
    }

    pub(crate) fn detector(&self, (stream, window, at): (usize, usize, usize)) -> &Detector {
        &self.streams[stream].windows[window].detectors[at]
    }

    pub(crate) fn detector_mut(&mut self, (stream, window, at): (usize, usize, usize)) -> &mut Detector {
        &mut self.streams[stream].windows[window].detectors[at]
    }

    /// Advances some streams to the watermark and appends the finding changes.
    pub(crate) fn advance_watermark(
        &mut self,
        streams: Range<usize>,
        watermark: Micros,
        changes: &mut Vec<Change>,
    ) {
        for stream in &mut self.streams[streams] {
            stream.advance_watermark(watermark, changes);
        }
    }
}
