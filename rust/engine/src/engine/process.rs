//! Batches: decoded in steps by the ingest workers, then counted by the shards.

use super::Engine;
use super::ingest::ArrivalTimes;
use super::outcome::{Input, Outcome};
use super::repartition::{self, RepartitionBatchError};
use super::shard::{Shard, ShardChunk};
use super::thread_pool::{STEP_BYTES, STEP_RECORDS};
use crate::decode::record::{Lines, Record};
use crate::decode::record_batch::{Decoder, Fetched, Sealed};
use crate::foundation::time::Micros;
use crate::foundation::watermark::{StreamClock, StreamId};
use std::borrow::Cow;

/// A batch in progress.
struct Pass {
    outcome: Outcome,
    clock: StreamClock,
    /// Events later than this are rejected.
    latest: Micros,
    /// Events before this are reported as late; the same for the whole batch, however many threads read it.
    late_before: Micros,
}

impl Pass {
    fn times(&self) -> ArrivalTimes {
        ArrivalTimes { latest: self.latest, clock: self.clock.time(), late_before: self.late_before }
    }
}

/// Latest accepted event time, 2100-01-01, because pane numbers have 32 bits.
const END_OF_TIME: Micros = 4_102_444_800 * 1_000_000;

impl Engine {
    /// Counts a batch of records of one stream, in stream order.
    pub fn process<'a>(&mut self, records: impl IntoIterator<Item = Record<'a>>, input: Input) -> Outcome {
        let mut pass = self.begin(input);
        let mut records = records.into_iter().peekable();
        while records.peek().is_some() {
            let mut events = [Vec::with_capacity(STEP_RECORDS)];
            let step = records.by_ref().take(STEP_RECORDS);
            let resume = self.resuming.get(&input.stream);
            self.workers[0].read(step.map(Ok), pass.times(), resume, &mut events[0]);
            self.count(0, &events, &mut pass);
        }
        self.end(pass)
    }

    /// Counts a batch of JSON Lines of one stream; `first_line` is the number of its first line.
    pub fn process_lines(&mut self, text: &[u8], first_line: u64, input: Input) -> Outcome {
        let mut pass = self.begin(input);
        let mut next_line = first_line;
        let mut rest = text;
        while !rest.is_empty() {
            let mut parts: Vec<Lines<'_>> = Vec::with_capacity(self.workers.len());
            let share = self.pool.chunk_size(rest.len(), STEP_BYTES);
            while parts.len() < self.workers.len() && !rest.is_empty() {
                let (part, after) = split_after_line(rest, share);
                parts.push(Lines::new(part, 0));
                rest = after;
            }
            let mut events = vec![Vec::with_capacity(STEP_RECORDS); parts.len()];
            let times = pass.times();
            let jobs = self.workers.iter_mut().zip(&mut parts).zip(&mut events);
            self.pool.run_parallel(jobs, |((worker, lines), events)| {
                worker.read(lines.map(Ok), times, None, events);
            });
            // Lines are numbered within their chunk until the lines of the chunks before are known.
            for (worker, part) in self.workers.iter_mut().zip(&parts) {
                worker.rejects.iter_mut().for_each(|reject| reject.position += next_line);
                let recorded = worker.recorder.iter_mut().flat_map(|recorder| &mut recorder.rows.positions);
                recorded.for_each(|position| *position += next_line);
                next_line += part.passed();
            }
            self.count(0, &events, &mut pass);
        }
        self.end(pass)
    }

    /// Counts the record batches of a fetch from one Kafka partition, in offset order.
    pub fn process_fetched(&mut self, fetched: Fetched<'_>, input: Input) -> Outcome {
        let mut pass = self.begin(input);
        if self.resuming.get(&input.stream).is_some_and(|resume| resume.is_over(fetched.position)) {
            self.resuming.remove(&input.stream);
        }
        let mut decoders = std::mem::take(&mut self.decoders);
        let batches = fetched.sealed();
        let mut rest = &batches[..];
        while !rest.is_empty() {
            let mut parts: Vec<&[Sealed<'_>]> = Vec::with_capacity(self.workers.len());
            let share = self.pool.chunk_size(records_in(rest), STEP_RECORDS);
            while parts.len() < self.workers.len() && !rest.is_empty() {
                let (part, after) = rest.split_at(batches_with(rest, share));
                parts.push(part);
                rest = after;
            }
            // Decompressed and read by the same job, but the bytes must outlive it, because groups are named from
            // them.
            let mut events = vec![Vec::with_capacity(STEP_RECORDS); parts.len()];
            let (times, resume) = (pass.times(), self.resuming.get(&input.stream));
            let jobs = self.workers.iter_mut().zip(&mut decoders).zip(&mut parts).zip(&mut events);
            self.pool.run_parallel(jobs, |(((worker, decoder), part), events)| {
                let (unpacked, left) = part.split_at(decoder.unpack(part));
                worker.read(decoder.records(unpacked, fetched.position), times, resume, events);
                *part = left;
            });
            if parts.iter().all(|left| left.is_empty()) {
                self.count(0, &events, &mut pass);
            } else {
                for (at, (left, events)) in parts.into_iter().zip(&events).enumerate() {
                    self.count(at, std::slice::from_ref(events), &mut pass);
                    self.process_large(at, left, fetched.position, &mut pass, input.stream);
                }
            }
        }
        self.decoders = decoders;
        self.end(pass)
    }

    /// Counts batches that unpack to too much to be read at once, a few at a time, by one worker. What workers after it
    /// have read is counted later.
    fn process_large(
        &mut self,
        worker: usize,
        mut batches: &[Sealed<'_>],
        position: u64,
        pass: &mut Pass,
        stream: StreamId,
    ) {
        // The buffers of the other workers are needed until their events are counted.
        let mut decoder = Decoder::default();
        while !batches.is_empty() {
            let mut events = [Vec::new()];
            let (unpacked, left) = batches.split_at(decoder.unpack(batches));
            let resume = self.resuming.get(&stream);
            self.workers[worker].read(
                decoder.records(unpacked, position),
                pass.times(),
                resume,
                &mut events[0],
            );
            self.count(worker, &events, pass);
            batches = left;
        }
    }

    /// Counts events that another engine forwarded in a repartition batch, as events of the given stream. Events
    /// before `position` were counted before and are skipped.
    ///
    /// # Errors
    /// The bytes are malformed; nothing is counted.
    pub fn process_repartition_batch(
        &mut self,
        bytes: &[u8],
        position: u64,
        input: Input,
    ) -> Result<Outcome, RepartitionBatchError> {
        let records = repartition::unpack(bytes)?;
        Ok(self.process(records.into_iter().filter(|record| record.position >= position), input))
    }

    /// Advances the clock of a stream whose events another engine counts.
    pub fn observe(&mut self, stream: StreamId, time: Micros) -> Outcome {
        let mut clock = self.watermark.open(stream);
        clock.observe(time.min(END_OF_TIME));
        self.watermark.close(clock);
        self.advanced()
    }

    fn begin(&mut self, input: Input) -> Pass {
        let readers = self.workers.iter_mut().map(|worker| &mut worker.reader);
        let readers = readers.chain(self.shards.iter_mut().map(|shard| &mut shard.reader));
        readers.for_each(|reader| reader.refresh(&self.tables));
        let clock = self.watermark.open(input.stream);
        let latest = input.now.map_or(END_OF_TIME, |now| now.saturating_add(self.max_skew).min(END_OF_TIME));
        let late_before = clock.watermark_after(Micros::MIN).saturating_sub(self.late_after);
        Pass { outcome: Outcome::default(), clock, latest, late_before }
    }

    /// Counts what the workers from number `first` on routed in a step; `events` holds the bytes of each worker's events.
    fn count(&mut self, first: usize, events: &[Vec<Cow<'_, [u8]>>], pass: &mut Pass) {
        let Pass { outcome, clock, .. } = pass;
        let mut dealt: Vec<Vec<ShardChunk<'_>>> = self.shards.iter().map(|_| Vec::new()).collect();
        for (worker, events) in self.workers[first..].iter_mut().zip(events) {
            let (read, late) = worker.tally(*clock);
            outcome.events += read;
            outcome.late += late;
            outcome.coverage.add(std::mem::take(&mut worker.coverage));
            outcome.rejects.append(&mut worker.rejects);
            if let Some(outbound) = &mut worker.outbound {
                outbound.send(&mut outcome.repartition_batches);
            }
            if let Some(recorder) = &mut worker.recorder {
                outcome.recording.append(&mut recorder.rows);
            }
            for (chunks, batches) in dealt.iter_mut().zip(&mut worker.batches) {
                chunks.push(ShardChunk { batches: std::mem::take(batches), events, clock: *clock });
            }
            clock.observe(worker.newest);
        }
        let is_large = self.pool.is_worth_parallel(events.iter().map(Vec::len).sum());
        if self.shards.iter().any(Shard::has_novelty_filters) {
            self.by_shard(&mut dealt, is_large, Shard::retain_novel);
        }
        if self.baseline_rules.is_empty() {
            self.count_until(None, &mut dealt, is_large);
        } else {
            // Close each day before events of the day after the next are compared with its expected counts.
            while let Some(watermark) = next_watermark(&dealt) {
                self.close_days(watermark);
                let tomorrow = self.days.start_of(self.days.day(watermark) + 1);
                self.count_until(Some(tomorrow), &mut dealt, is_large);
            }
        }
        for (at, chunks) in dealt.into_iter().enumerate() {
            for (worker, piece) in self.workers[first..].iter_mut().zip(chunks) {
                worker.batches[at] = piece.batches;
            }
        }
    }

    fn count_until(&mut self, until: Option<Micros>, dealt: &mut [Vec<ShardChunk<'_>>], is_large: bool) {
        self.by_shard(dealt, is_large, |shard, chunks| shard.count(chunks, until));
    }

    /// Runs `work` on every shard, in parallel if the step is large.
    fn by_shard<'r>(
        &mut self,
        dealt: &mut [Vec<ShardChunk<'r>>],
        is_large: bool,
        work: impl Fn(&mut Shard, &mut [ShardChunk<'r>]) + Sync,
    ) {
        let jobs = self.shards.iter_mut().zip(dealt);
        if is_large {
            self.pool.run_parallel(jobs, |(shard, chunks)| work(shard, chunks));
        } else {
            jobs.for_each(|(shard, chunks)| work(shard, chunks));
        }
    }

    fn end(&mut self, pass: Pass) -> Outcome {
        let Pass { mut outcome, clock, .. } = pass;
        outcome.clock = clock.time();
        self.watermark.close(clock);
        self.advance(&mut outcome);
        outcome
    }
}

/// Splits `text` after the line that contains byte number `bytes`.
fn split_after_line(text: &[u8], bytes: usize) -> (&[u8], &[u8]) {
    let from = bytes.min(text.len()).saturating_sub(1);
    text.split_at(memchr::memchr(b'\n', &text[from..]).map_or(text.len(), |at| from + at + 1))
}

fn records_in(batches: &[Sealed<'_>]) -> usize {
    batches.iter().map(Sealed::records).sum()
}

/// Number of batches that contain at least `records` records, or all.
fn batches_with(batches: &[Sealed<'_>], records: usize) -> usize {
    let mut sum = 0;
    let enough = batches.iter().position(|batch| {
        sum += batch.records();
        sum >= records
    });
    enough.map_or(batches.len(), |at| at + 1)
}

/// Lowest watermark after the next event of any shard.
fn next_watermark(dealt: &[Vec<ShardChunk<'_>>]) -> Option<Micros> {
    dealt.iter().flatten().filter_map(ShardChunk::next_watermark).min()
}
