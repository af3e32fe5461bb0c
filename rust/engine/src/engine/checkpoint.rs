//! Saving and restoring the engine's state, also under a changed plan. See [`super::snapshot`] for the format.

use super::Engine;
use super::snapshot::{self, Dropped, READABLE, RestoreError, VERSION};
use crate::foundation::codec::{Damaged, StateReader, StateWriter};
use crate::foundation::fingerprint::Fingerprinter;
use crate::foundation::partition::SHARDS;
use crate::foundation::time::micros;
use crate::foundation::watermark::StreamId;
use crate::keyed::{KeyedStream, Resume};
use crate::plan::Plan;
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::num::NonZeroUsize;

impl Engine {
    /// Number of parts of a snapshot.
    pub fn parts(&self) -> usize {
        self.shards.iter().map(|shard| shard.streams.len()).sum()
    }

    /// Saves the frame: what all parts have in common. Save it before the parts. After a restore the source starts at
    /// its position of this moment.
    pub fn save_frame(&self) -> Vec<u8> {
        let mut to = StateWriter::default();
        to.u16(VERSION);
        to.raw(self.fingerprinter.key());
        self.watermark.save(&mut to);
        snapshot::save_state_layout(&self.state_layout, &mut to);
        for at in 0..self.state_layout.len() {
            to.u64(self.matched(at));
        }
        to.finish().concat()
    }

    /// Saves one part as of now. No events may be counted while it is saved, but they may be between two parts.
    /// `positions` holds, for each source stream, the position of its next event. Returns the bytes in chunks.
    pub fn save_part(&self, part: usize, positions: &[(StreamId, u64)]) -> Vec<Vec<u8>> {
        let (shard, stream) = (part % SHARDS, part / SHARDS);
        let Some(keyed) = self.shards[shard].streams.get(stream) else {
            return Vec::new();
        };
        let mut to = StateWriter::default();
        to.list(positions.iter(), |to, &(id, position)| {
            // After a restore the part can be ahead of the source.
            let resume = self.resuming.get(&id).map_or(0, |resume| resume.from(shard, stream));
            to.u32(id);
            to.u64(position.max(resume));
        });
        keyed.save(self.watermark.current(), &mut to);
        to.finish()
    }

    /// Restores an engine from a snapshot. Also returns the state that the plan cannot use.
    ///
    /// # Errors
    /// The plan cannot be run, or the snapshot cannot be read.
    pub fn restore(
        plan: &Plan,
        threads: NonZeroUsize,
        frame: &[u8],
        parts: &[&[u8]],
    ) -> Result<(Self, Dropped), RestoreError> {
        let version = StateReader::new(frame, 0).u16()?;
        if !READABLE.contains(&version) {
            return Err(RestoreError::Version(version));
        }
        let from = &mut StateReader::new(frame, version);
        from.u16()?;
        let key: [u8; 16] = from.raw()?;
        if plan.key()?.is_some_and(|wanted| wanted != key) {
            return Err(RestoreError::Key);
        }
        let mut engine = Self::with_keyring(plan, threads, Fingerprinter::new(key))?;
        engine.watermark.load(from)?;
        let saved = snapshot::load_state_layout(from)?;
        let matched = saved.iter().map(|_| from.u64()).collect::<Result<Vec<_>, _>>()?;
        from.end()?;
        if saved.len() * SHARDS != parts.len() {
            return Err(Damaged("the number of parts is wrong").into());
        }
        let deferred = plan.rules.iter().filter(|rule| rule.floor().is_none()).map(|rule| rule.id.as_str());
        let mut dropped = Dropped::default();
        let mappings = snapshot::mappings(
            &saved,
            &engine.state_layout,
            &deferred.collect::<BTreeSet<_>>(),
            &mut dropped,
        );
        let mut resuming: FxHashMap<StreamId, Vec<Vec<u64>>> = FxHashMap::default();
        for (number, part) in parts.iter().enumerate() {
            let (shard, mapping) = (number % SHARDS, &mappings[number / SHARDS]);
            let from = &mut StateReader::new(part, version);
            let positions: Vec<(StreamId, u64)> = from.list(12, |from| Ok((from.u32()?, from.u64()?)))?;
            let mut nobody = KeyedStream::empty();
            let target =
                mapping.target.map_or(&mut nobody, |target| &mut engine.shards[shard].streams[target]);
            dropped.orphans.append(&mut target.load(from, &mapping.windows)?);
            from.end()?;
            for (stream, position) in positions {
                let nothing = || vec![vec![0; engine.state_layout.len()]; SHARDS];
                let known = resuming.entry(stream).or_insert_with(nothing);
                mapping.target.into_iter().for_each(|target| known[shard][target] = position);
            }
        }
        for (mapping, matched) in mappings.iter().zip(matched) {
            mapping.target.into_iter().for_each(|target| engine.workers[0].matched[target] = matched);
        }
        engine.resuming = resuming.into_iter().map(|(stream, from)| (stream, Resume::new(from))).collect();
        Ok((engine, dropped))
    }

    /// Creates an engine with another plan and this engine's state. Also returns the state that the plan cannot use.
    /// `positions` are as for [`Self::save_part`].
    ///
    /// # Errors
    /// The plan cannot be run.
    pub fn replanned(
        &self,
        plan: &Plan,
        threads: NonZeroUsize,
        positions: &[(StreamId, u64)],
    ) -> Result<(Self, Dropped), RestoreError> {
        let parts: Vec<Vec<u8>> =
            (0..self.parts()).map(|part| self.save_part(part, positions).concat()).collect();
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let (mut engine, dropped) = Self::restore(plan, threads, &self.save_frame(), &parts)?;
        engine.tables = self.tables.clone();
        engine.watermark = self.watermark.with_lateness(micros(plan.allowed_lateness_ms));
        Ok((engine, dropped))
    }

    /// Counts a stream from its next event on, even if the snapshot had counted further: the stream was replaced by
    /// another one with the same id.
    pub fn reset_stream(&mut self, stream: StreamId) {
        self.resuming.remove(&stream);
    }
}
