//! Advancing the watermark: panes are closed, rules evaluated, baseline days closed, and finding openings passed to
//! the rules that count them.

use super::Engine;
use super::outcome::Outcome;
use crate::detect::{ByPeer, Change, FinalOpening, Profiles};
use crate::foundation::calendar::Day;
use crate::foundation::partition::SHARDS;
use crate::foundation::time::Micros;
use crate::foundation::watermark::StreamId;
use crate::keyed::{KeyedBatch, KeyedStream};

impl Engine {
    /// Makes a stream hold the watermark back from now on: before its first event, or again after it was idle.
    pub fn join(&mut self, stream: StreamId) {
        self.watermark.join(stream);
    }

    /// Removes a stream; it no longer holds the watermark back.
    pub fn leave(&mut self, stream: StreamId) -> Outcome {
        self.watermark.leave(stream);
        self.advanced()
    }

    /// Stops a stream from holding the watermark back until its next event.
    pub fn set_idle(&mut self, stream: StreamId) -> Outcome {
        self.watermark.set_idle(stream);
        self.advanced()
    }

    /// Ends the input: evaluates and closes everything.
    pub fn finish(&mut self) -> Outcome {
        self.watermark.finish();
        self.advanced()
    }

    /// Returns the findings whose values changed since they were last reported. An active finding changes with every
    /// batch, so the caller decides how often to ask.
    pub fn updates(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        let streams = self.shards.iter_mut().flat_map(|shard| &mut shard.streams);
        streams.for_each(|stream| stream.updates(&mut changes));
        changes
    }

    pub(super) fn current_watermark(&self) -> Option<Micros> {
        Some(self.watermark.current()).filter(|&time| time != Micros::MIN && time != Micros::MAX)
    }

    /// Closes the days that the watermark passed. Peer statistics need the groups of all shards, so they are computed
    /// here.
    pub(super) fn close_days(&mut self, watermark: Micros) {
        for &place in &self.baseline_rules {
            let all = || self.shards.iter().filter_map(|shard| shard.detector(place).profiles());
            let Some(first) = all().next() else { continue };
            // After a restore, some shards can be ahead of others.
            let over = all().map(|profiles| profiles.over(watermark)).min_by_key(|over| over.start);
            let Some(over) = over.filter(|over| !over.is_empty()) else { continue };
            let today = over.end;
            let full_from = all().filter_map(Profiles::full_from).min().unwrap_or(Day::MAX);
            let stats: Vec<_> = over
                .filter(|&day| day >= full_from)
                .map(|day| {
                    let mut by_peer = ByPeer::default();
                    all().for_each(|profiles| profiles.on(day, &mut by_peer));
                    let expected =
                        by_peer.into_iter().filter_map(|(peer, groups)| Some((peer, first.among(groups)?)));
                    (day, expected.collect())
                })
                .collect();
            for shard in &mut self.shards {
                shard.detector_mut(place).close_days(today, &stats);
            }
        }
    }

    /// Counts finding openings in the streams from index `first` on.
    fn count_openings(&mut self, first: usize, openings: &[FinalOpening]) {
        for (at, spec) in
            self.specs.iter().enumerate().skip(first).filter(|(_, spec)| !spec.openings.is_empty())
        {
            let mut batches: [KeyedBatch; SHARDS] = Default::default();
            self.workers[0].matched[at] += spec.route_openings(openings, &self.fingerprinter, &mut batches);
            for (shard, batch) in self.shards.iter_mut().zip(&mut batches) {
                shard.streams[at].count_openings(batch, openings, spec);
            }
        }
    }

    pub(super) fn advanced(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        self.advance(&mut outcome);
        outcome
    }

    pub(super) fn advance(&mut self, outcome: &mut Outcome) {
        let watermark = self.watermark.current();
        for level in self.levels.clone() {
            for shard in &mut self.shards {
                shard.advance_watermark(level.clone(), watermark, &mut outcome.changes);
            }
            let advanced = self.shards.iter_mut().flat_map(|shard| &mut shard.streams[level.clone()]);
            let openings: Vec<FinalOpening> = advanced.flat_map(KeyedStream::take_final_openings).collect();
            if !openings.is_empty() {
                self.count_openings(level.end, &openings);
            }
        }
        self.close_days(watermark);
        outcome.watermark = self.current_watermark();
    }
}
