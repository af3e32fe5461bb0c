//! The engine: batches of records through extraction, rules and windows, on one thread or several.
//!
//! A batch is worked off in steps. Of each step, *lanes* read a piece each, at once; then *shards* count their
//! groups' part of all pieces, at once. There are as many lanes as threads, and any number of them comes to the same
//! findings; there are always as many shards, so that a snapshot fits every engine. A step too small to be worth a
//! hand-over is worked off on the caller's thread.

use crate::admit::Checks;
use crate::codec::{Damaged, Reader, Writer};
use crate::crew::{Crew, STEP_BYTES, STEP_RECORDS};
use crate::detect::{Announced, ByPeer, Day, Days, Profiles};
use crate::field::FieldTable;
use crate::finding::Change;
use crate::history::{Recorder, Recording};
use crate::key::Keyring;
use crate::keyed::{Intake, KeyedStream, Placed, StreamSpec};
use crate::lane::Lane;
use crate::layout::{Conditions, Layout, Place, lay_out};
use crate::lookup::Tables;
use crate::matcher::Matcher;
use crate::plan::{Plan, PlanError};
use crate::record::{Lines, Record};
use crate::record_batch::{Decoder, Fetched, Sealed};
use crate::reject::Reject;
use crate::repartition::{self, Outbound, Parcel, ParcelError};
use crate::shard::{Piece, SHARDS, Shard};
use crate::shedding::{Ages, Forgotten};
use crate::snapshot::{self, Arrangement, Dropped, RestoreError, Resume, VERSION};
use crate::time::Micros;
use crate::watermark::{StreamClock, StreamId, Watermark};
use rustc_hash::FxHashMap;
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

/// What the caller says about a batch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Input {
    /// The stream the batch is from.
    pub stream: StreamId,
    /// The time now, against which events from the future are told; `None` takes every time.
    pub now: Option<Micros>,
}

/// What came of a batch.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Findings that opened, were swallowed or closed, one entry each.
    pub changes: Vec<Change>,
    /// Records that were not counted.
    pub rejects: Vec<Reject>,
    /// Records counted.
    pub events: u64,
    /// Of these, events that came after the watermark had passed them.
    pub late: u64,
    /// The watermark after the batch; `None` before the first event.
    pub watermark: Option<Micros>,
    /// The largest event time seen on the batch's stream; `None` before the first event.
    pub clock: Option<Micros>,
    /// Events that are counted by other engines; those for one share in the order they came.
    pub parcels: Vec<Parcel>,
    /// The events, where the plan wants them kept.
    pub recording: Recording,
}

/// Figures of one rule now.
#[derive(Debug, Clone, Default)]
pub struct RuleStats {
    /// Groups in memory, of all rules with the same condition and `group-by`.
    pub groups: usize,
    /// Findings not closed.
    pub open_findings: usize,
    /// Groups for which the condition holds, but of which there are too many for a finding each.
    pub unlisted: usize,
    /// Findings ever opened.
    pub opened: u64,
    /// Events that matched.
    pub matched: u64,
    /// Largest count any group reached within the last timespan, over the threshold.
    pub peak_ratio: f64,
}

/// Figures of the engine now.
#[derive(Debug, Clone)]
pub struct Stats {
    /// By rule, in the plan's order.
    pub rules: Vec<RuleStats>,
    /// Memory held by windows, in bytes.
    pub bytes: usize,
    /// The watermark; `None` before the first event.
    pub watermark: Option<Micros>,
    /// The largest event time seen.
    pub newest: Option<Micros>,
}

/// How a group stands with a rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// Its count, or measure.
    pub level: f64,
    /// What that is held against; `None` where nothing is known yet that it could be.
    pub threshold: Option<f64>,
    /// What is usual for it, where a baseline makes the threshold.
    pub usual: Option<f64>,
}

/// What was forgotten because memory ran short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shed {
    /// It had last been seen before this time.
    pub before: Micros,
    /// By rule, in the plan's order. Rules that share a window share what it forgets.
    pub rules: Vec<Forgotten>,
}

/// Counts events by the rules of a plan.
#[derive(Debug)]
pub struct Engine {
    keyring: Keyring,
    lanes: Vec<Lane>,
    decoders: Vec<Decoder>,
    shards: Vec<Shard>,
    arrangement: Arrangement,
    /// By stream that a snapshot knew: what of it was counted before.
    resuming: FxHashMap<StreamId, Resume>,
    crew: Crew,
    watermark: Watermark,
    max_skew: Micros,
    tables: Tables,
    /// Where rules with a baseline are in every shard.
    following: Vec<(usize, usize, usize)>,
    specs: Arc<[StreamSpec]>,
    /// Which streams each level has: those of one count what the openings on those below make.
    levels: Vec<Range<usize>>,
    days: Days,
}

/// A batch on its way through.
struct Pass {
    outcome: Outcome,
    clock: StreamClock,
    /// No event may be later.
    latest: Micros,
}

/// A second past which no time is taken, clock or not: 2100-01-01. Panes are 32 bits wide.
const END_OF_TIME: Micros = 4_102_444_800 * 1_000_000;

impl Engine {
    /// An engine without events yet, on so many threads.
    ///
    /// # Errors
    /// What in the plan cannot be run.
    pub fn new(plan: &Plan, threads: NonZeroUsize) -> Result<Self, PlanError> {
        let key = plan.key()?;
        Self::with_keyring(plan, threads, key.map_or_else(random_keyring, Keyring::new))
    }

    fn with_keyring(plan: &Plan, threads: NonZeroUsize, keyring: Keyring) -> Result<Self, PlanError> {
        let mut fields = FieldTable::new(plan)?;
        let checks = Checks::new(plan, &mut fields)?;
        if let Some(share) = plan.share {
            share.check()?;
        }
        let mut conditions = Conditions::default();
        let Layout { streams: specs, levels, placed, followed } =
            lay_out(&plan.rules, &mut conditions, &mut fields)?;
        let elsewhere = plan.repartition.as_ref().map_or(&[][..], |repartition| &repartition.rules);
        let elsewhere = lay_out(elsewhere, &mut conditions, &mut fields)?.streams;
        let outbound = Outbound::new(plan, elsewhere, &mut fields)?;
        let recorder = plan.history.then(|| Recorder::new(&mut fields)).transpose()?;
        let conditions: Arc<[Matcher]> = conditions.compiled.into();
        let days = Days { offset: fields.zone().offset() };
        let reader = fields.reader();
        let shards = (0..SHARDS).map(|_| {
            let streams = specs.iter().enumerate().map(|(stream, spec)| {
                let rules = plan.rules.iter().zip(&placed).enumerate();
                let rules = rules.filter(|&(_, (_, place))| place.stream == stream);
                let placed = rules.map(|(number, (plan, &Place { counted, peers, .. }))| Placed {
                    number,
                    plan,
                    counted,
                    peers,
                });
                let mut stream = KeyedStream::new(spec, days, placed);
                stream.announce(&followed);
                stream
            });
            Shard::new(streams.collect(), reader.clone(), keyring)
        });
        let lane = |_| {
            let (conditions, specs) = (Arc::clone(&conditions), Arc::clone(&specs));
            let elsewhere = (plan.share, outbound.clone(), recorder.clone());
            Lane::new(checks.clone(), reader.clone(), conditions, specs, keyring, elsewhere)
        };
        let shards: Vec<Shard> = shards.collect();
        let following = shards[0].following().collect();
        Ok(Self {
            keyring,
            arrangement: snapshot::arrangement(plan, &shards[0].streams),
            resuming: FxHashMap::default(),
            shards,
            crew: Crew::new(threads)?,
            lanes: (0..threads.get()).map(lane).collect(),
            decoders: (0..threads.get()).map(|_| Decoder::default()).collect(),
            watermark: Watermark::new(micros(plan.allowed_lateness_ms)),
            max_skew: micros(plan.max_future_skew_ms),
            tables: Tables::default(),
            following,
            specs: Arc::clone(&specs),
            levels,
            days,
        })
    }

    /// Has derived fields look up in these tables, which may be exchanged while the engine is at work: a batch sees one state.
    pub fn use_tables(&mut self, tables: Tables) {
        self.tables = tables;
    }

    /// Counts a batch of records of one stream, in the order they came.
    pub fn process<'a>(&mut self, records: impl IntoIterator<Item = Record<'a>>, input: Input) -> Outcome {
        let mut pass = self.begin(input);
        let mut records = records.into_iter().peekable();
        while records.peek().is_some() {
            let mut events = [Vec::with_capacity(STEP_RECORDS)];
            let step = records.by_ref().take(STEP_RECORDS);
            let resume = self.resuming.get(&input.stream);
            self.lanes[0].read(step.map(Ok), pass.latest, resume, &mut events[0]);
            self.count(&events, &mut pass);
        }
        self.end(pass)
    }

    /// Counts a batch of JSON Lines of one stream. `first_line` is the number of its first line.
    pub fn process_lines(&mut self, text: &[u8], first_line: u64, input: Input) -> Outcome {
        let mut pass = self.begin(input);
        let mut next_line = first_line;
        let mut rest = text;
        while !rest.is_empty() {
            let mut parts: Vec<Lines<'_>> = Vec::with_capacity(self.lanes.len());
            let share = self.crew.share(rest.len(), STEP_BYTES);
            while parts.len() < self.lanes.len() && !rest.is_empty() {
                let (part, after) = split_after_line(rest, share);
                parts.push(Lines::new(part, 0));
                rest = after;
            }
            let mut events = vec![Vec::with_capacity(STEP_RECORDS); parts.len()];
            let latest = pass.latest;
            let jobs = self.lanes.iter_mut().zip(&mut parts).zip(&mut events);
            self.crew.side_by_side(jobs, |((lane, lines), events)| {
                lane.read(lines.map(Ok), latest, None, events);
            });
            // Lines are numbered within their part until it is known how many the parts before have.
            for (lane, part) in self.lanes.iter_mut().zip(&parts) {
                lane.rejects.iter_mut().for_each(|reject| reject.position += next_line);
                let recorded = lane.recorder.iter_mut().flat_map(|recorder| &mut recorder.rows.positions);
                recorded.for_each(|position| *position += next_line);
                next_line += part.passed();
            }
            self.count(&events, &mut pass);
        }
        self.end(pass)
    }

    /// Counts what a fetch of one Kafka partition brought, in the order of its offsets.
    pub fn process_fetched(&mut self, fetched: Fetched<'_>, input: Input) -> Outcome {
        let mut pass = self.begin(input);
        if self.resuming.get(&input.stream).is_some_and(|resume| resume.is_over(fetched.position)) {
            self.resuming.remove(&input.stream);
        }
        let mut decoders = std::mem::take(&mut self.decoders);
        let batches = fetched.sealed();
        let mut rest = &batches[..];
        while !rest.is_empty() {
            let mut parts: Vec<&[Sealed<'_>]> = Vec::with_capacity(self.lanes.len());
            let share = self.crew.share(records_in(rest), STEP_RECORDS);
            while parts.len() < self.lanes.len() && !rest.is_empty() {
                let (part, after) = rest.split_at(batches_with(rest, share));
                parts.push(part);
                rest = after;
            }
            // Unpacked and read by one job, but the bytes outlive it: findings are named from them.
            let mut events = vec![Vec::with_capacity(STEP_RECORDS); parts.len()];
            let (latest, resume) = (pass.latest, self.resuming.get(&input.stream));
            let jobs = self.lanes.iter_mut().zip(&mut decoders).zip(&parts).zip(&mut events);
            self.crew.side_by_side(jobs, |(((lane, decoder), part), events)| {
                decoder.unpack(part);
                lane.read(decoder.records(part, fetched.position), latest, resume, events);
            });
            self.count(&events, &mut pass);
        }
        self.decoders = decoders;
        self.end(pass)
    }

    /// Counts a parcel of events that another engine handed on, which are this stream's. Those before `position` came before.
    ///
    /// # Errors
    /// Bytes that are no parcel; then nothing is counted.
    pub fn process_parcel(
        &mut self,
        bytes: &[u8],
        position: u64,
        input: Input,
    ) -> Result<Outcome, ParcelError> {
        let records = repartition::unpack(bytes)?;
        Ok(self.process(records.into_iter().filter(|record| record.position >= position), input))
    }

    /// Takes notice of how far a stream has come whose other events are counted elsewhere.
    pub fn observe(&mut self, stream: StreamId, time: Micros) -> Outcome {
        let mut clock = self.watermark.open(stream);
        clock.observe(time.min(END_OF_TIME));
        self.watermark.close(clock);
        self.settled()
    }

    fn begin(&mut self, input: Input) -> Pass {
        let readers = self.lanes.iter_mut().map(|lane| &mut lane.reader);
        let readers = readers.chain(self.shards.iter_mut().map(|shard| &mut shard.reader));
        readers.for_each(|reader| reader.refresh(&self.tables));
        let clock = self.watermark.open(input.stream);
        let latest = input.now.map_or(END_OF_TIME, |now| now.saturating_add(self.max_skew).min(END_OF_TIME));
        Pass { outcome: Outcome::default(), clock, latest }
    }

    /// Counts what the lanes have read of a step: `events` has the bytes of each lane's events.
    fn count(&mut self, events: &[Vec<&[u8]>], pass: &mut Pass) {
        let Pass { outcome, clock, .. } = pass;
        let mut dealt: Vec<Vec<Piece<'_>>> = self.shards.iter().map(|_| Vec::new()).collect();
        for (lane, events) in self.lanes.iter_mut().zip(events) {
            let (read, late) = lane.tally(*clock);
            outcome.events += read;
            outcome.late += late;
            outcome.rejects.append(&mut lane.rejects);
            if let Some(outbound) = &mut lane.outbound {
                outbound.send(&mut outcome.parcels);
            }
            if let Some(recorder) = &mut lane.recorder {
                outcome.recording.append(&mut recorder.rows);
            }
            for (pieces, intakes) in dealt.iter_mut().zip(&mut lane.intakes) {
                pieces.push(Piece { intakes: std::mem::take(intakes), events, clock: *clock });
            }
            clock.observe(lane.newest);
        }
        let is_large = self.crew.is_worth_it(events.iter().map(Vec::len).sum());
        if self.shards.iter().any(Shard::has_sieves) {
            self.by_shard(&mut dealt, is_large, Shard::sift);
        }
        if self.following.is_empty() {
            self.count_until(None, &mut dealt, is_large);
        } else {
            // What is usual on a day must be known before the events of the day after next are held against it.
            while let Some(watermark) = next_watermark(&dealt) {
                self.close_days(watermark);
                let tomorrow = self.days.start_of(self.days.day(watermark) + 1);
                self.count_until(Some(tomorrow), &mut dealt, is_large);
            }
        }
        for (at, pieces) in dealt.into_iter().enumerate() {
            for (lane, piece) in self.lanes.iter_mut().zip(pieces) {
                lane.intakes[at] = piece.intakes;
            }
        }
    }

    fn count_until(&mut self, until: Option<Micros>, dealt: &mut [Vec<Piece<'_>>], is_large: bool) {
        self.by_shard(dealt, is_large, |shard, pieces| shard.count(pieces, until));
    }

    /// Has every shard do something with its part, at once if there is much of it.
    fn by_shard<'r>(
        &mut self,
        dealt: &mut [Vec<Piece<'r>>],
        is_large: bool,
        work: impl Fn(&mut Shard, &mut [Piece<'r>]) + Sync,
    ) {
        let jobs = self.shards.iter_mut().zip(dealt);
        if is_large {
            self.crew.side_by_side(jobs, |(shard, pieces)| work(shard, pieces));
        } else {
            jobs.for_each(|(shard, pieces)| work(shard, pieces));
        }
    }

    fn end(&mut self, pass: Pass) -> Outcome {
        let Pass { mut outcome, clock, .. } = pass;
        outcome.clock = clock.time();
        self.watermark.close(clock);
        self.settle(&mut outcome);
        outcome
    }

    /// Lets a stream hold the watermark back from now on: a new one before its first event, an idle one again.
    pub fn join(&mut self, stream: StreamId) {
        self.watermark.join(stream);
    }

    /// Takes a stream away.
    pub fn leave(&mut self, stream: StreamId) -> Outcome {
        self.watermark.leave(stream);
        self.settled()
    }

    /// Lets the other streams go on without this one until its next event.
    pub fn set_idle(&mut self, stream: StreamId) -> Outcome {
        self.watermark.set_idle(stream);
        self.settled()
    }

    /// No more events will come: judges and closes everything.
    pub fn finish(&mut self) -> Outcome {
        self.watermark.finish();
        self.settled()
    }

    /// Findings whose figures have changed since they were last told of, one entry each. A busy finding changes
    /// with every batch, so its reader says how often it wants to hear of it.
    pub fn updates(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        let streams = self.shards.iter_mut().flat_map(|shard| &mut shard.streams);
        streams.for_each(|stream| stream.updates(&mut changes));
        changes
    }

    /// How many parts a snapshot has.
    pub fn parts(&self) -> usize {
        self.shards.iter().map(|shard| shard.streams.len()).sum()
    }

    /// Writes down what all parts of a snapshot share. It comes first: where the source then is, it begins after a restart.
    pub fn save_frame(&self) -> Vec<u8> {
        let mut to = Writer::default();
        to.u16(VERSION);
        to.raw(self.keyring.key());
        self.watermark.save(&mut to);
        snapshot::save_arrangement(&self.arrangement, &mut to);
        for at in 0..self.arrangement.len() {
            to.u64(self.matched(at));
        }
        to.finish().concat()
    }

    /// Writes a part down as it stands, which no part has been past the last. `positions` are the source's: of each stream,
    /// that of its next event. The bytes come in pieces.
    pub fn save_part(&self, part: usize, positions: &[(StreamId, u64)]) -> Vec<Vec<u8>> {
        let (shard, stream) = (part % SHARDS, part / SHARDS);
        let Some(keyed) = self.shards[shard].streams.get(stream) else {
            return Vec::new();
        };
        let mut to = Writer::default();
        to.list(positions.iter(), |to, &(id, position)| {
            // After a restart the part may be ahead of the source.
            let resume = self.resuming.get(&id).map_or(0, |resume| resume.from(shard, stream));
            to.u32(id);
            to.u64(position.max(resume));
        });
        keyed.save(self.watermark.current(), &mut to);
        to.finish()
    }

    /// An engine that goes on from a snapshot, and what of it the plan has no use for.
    ///
    /// # Errors
    /// A plan that cannot be run, and a snapshot that cannot be read.
    pub fn restore(
        plan: &Plan,
        threads: NonZeroUsize,
        frame: &[u8],
        parts: &[&[u8]],
    ) -> Result<(Self, Dropped), RestoreError> {
        let from = &mut Reader::new(frame);
        let version = from.u16()?;
        if version != VERSION {
            return Err(RestoreError::Version(version));
        }
        let key: [u8; 16] = from.raw()?;
        if plan.key()?.is_some_and(|wanted| wanted != key) {
            return Err(Damaged("its fingerprints have another key than this group of workers").into());
        }
        let mut engine = Self::with_keyring(plan, threads, Keyring::new(key))?;
        engine.watermark.load(from)?;
        let saved = snapshot::load_arrangement(from)?;
        let matched = saved.iter().map(|_| from.u64()).collect::<Result<Vec<_>, _>>()?;
        from.end()?;
        if saved.len() * SHARDS != parts.len() {
            return Err(Damaged("it has too few parts, or too many").into());
        }
        let judging = plan.rules.iter().filter(|rule| rule.floor().is_none()).map(|rule| rule.id.as_str());
        let mut dropped = Dropped::default();
        let fates =
            snapshot::fates(&saved, &engine.arrangement, &judging.collect::<BTreeSet<_>>(), &mut dropped);
        let mut resuming: FxHashMap<StreamId, Vec<Vec<u64>>> = FxHashMap::default();
        for (number, part) in parts.iter().enumerate() {
            let (shard, fate) = (number % SHARDS, &fates[number / SHARDS]);
            let from = &mut Reader::new(part);
            let positions: Vec<(StreamId, u64)> = from.list(12, |from| Ok((from.u32()?, from.u64()?)))?;
            let mut nobody = KeyedStream::empty();
            let heir = fate.heir.map_or(&mut nobody, |heir| &mut engine.shards[shard].streams[heir]);
            dropped.orphans.append(&mut heir.load(from, &fate.windows)?);
            from.end()?;
            for (stream, position) in positions {
                let nothing = || vec![vec![0; engine.arrangement.len()]; SHARDS];
                let known = resuming.entry(stream).or_insert_with(nothing);
                fate.heir.into_iter().for_each(|heir| known[shard][heir] = position);
            }
        }
        for (fate, matched) in fates.iter().zip(matched) {
            fate.heir.into_iter().for_each(|heir| engine.lanes[0].matched[heir] = matched);
        }
        engine.resuming = resuming.into_iter().map(|(stream, from)| (stream, Resume::new(from))).collect();
        Ok((engine, dropped))
    }

    /// An engine that goes on from this one under another plan, and what of this one it has no use for. `positions` are as
    /// for [`Self::save_part`].
    ///
    /// # Errors
    /// A plan that cannot be run.
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

    /// Events of a stream count from wherever it begins now, also where a snapshot had counted further: it is not the
    /// stream the snapshot knew.
    pub fn begin_anew(&mut self, stream: StreamId) {
        self.resuming.remove(&stream);
    }

    /// Memory held by windows, in bytes, without what waits to be used again.
    pub fn used_bytes(&self) -> usize {
        self.shards.iter().map(Shard::used_bytes).sum()
    }

    /// Forgets what has not been seen for longest until no more than so many bytes are in use, or nothing is left that may be
    /// forgotten. Returns by rule what it was, and before which time; `None` where nothing needed to be.
    pub fn shed(&mut self, most_bytes: usize) -> Option<Shed> {
        let rules = self.arrangement.iter().flatten().map(Vec::len).sum();
        let mut shed: Option<Shed> = None;
        // What is kept lies looser after, so that once is often not quite enough.
        while let excess @ 1.. = self.used_bytes().saturating_sub(most_bytes)
            && let Some(watermark) = self.current_watermark()
        {
            let before = self.oldest(excess, watermark);
            if shed.as_ref().is_some_and(|shed| before <= shed.before) {
                break;
            }
            let shed = shed.get_or_insert_with(|| Shed { before, rules: vec![Forgotten::default(); rules] });
            shed.before = before;
            self.forget_before(before, &mut shed.rules);
        }
        shed
    }

    /// The time before which so much was last seen that it would do to forget it.
    fn oldest(&mut self, bytes: usize, watermark: Micros) -> Micros {
        let mut by_shard = vec![Ages::new(watermark); self.shards.len()];
        // Not that it changes a shard, but a shard is one thread's at a time.
        let jobs = self.shards.iter_mut().zip(&mut by_shard);
        self.crew.side_by_side(jobs, |(shard, ages)| shard.ages(ages));
        let mut all = Ages::new(watermark);
        for ages in &by_shard {
            all.merge(ages);
        }
        all.time_before_which(bytes)
    }

    fn forget_before(&mut self, time: Micros, forgotten: &mut [Forgotten]) {
        let mut by_shard = vec![vec![Forgotten::default(); forgotten.len()]; self.shards.len()];
        let jobs = self.shards.iter_mut().zip(&mut by_shard);
        self.crew.side_by_side(jobs, |(shard, forgotten)| shard.forget_before(time, forgotten));
        for of_shard in &by_shard {
            for (sum, more) in forgotten.iter_mut().zip(of_shard) {
                *sum += *more;
            }
        }
    }

    fn matched(&self, stream: usize) -> u64 {
        self.lanes.iter().map(|lane| lane.matched[stream]).sum()
    }

    /// How a group stands with the plan's `rule`th rule in the window that ends with the pane of `time`, which is not behind the
    /// watermark; `group` has its names in the order of the rule's fields. `None` where it is not known.
    pub fn standing(&mut self, rule: usize, group: &[String], time: Micros) -> Option<Standing> {
        let names = group.iter().map(|name| self.keyring.print(name.as_bytes()));
        let print = self.keyring.combine(&names.collect::<Vec<_>>());
        let shard = self.shards.get_mut(print as u32 as usize % SHARDS)?;
        shard.streams.iter_mut().find_map(|stream| stream.standing(rule, print, time))
    }

    /// Figures now.
    pub fn stats(&self) -> Stats {
        let newest = self.watermark.newest();
        let mut rules: BTreeMap<usize, RuleStats> = BTreeMap::new();
        for (at, stream) in self.shards.iter().flat_map(|shard| shard.streams.iter().enumerate()) {
            for (detector, largest) in stream.detectors(newest) {
                let stats = rules.entry(detector.rule).or_default();
                stats.groups += stream.groups();
                stats.open_findings += detector.open_findings();
                stats.unlisted += detector.unlisted();
                stats.opened += detector.opened;
                stats.matched = self.matched(at);
                stats.peak_ratio = stats.peak_ratio.max(detector.peak_ratio(largest));
            }
        }
        Stats {
            rules: rules.into_values().collect(),
            bytes: self.shards.iter().flat_map(|shard| &shard.streams).map(KeyedStream::heap_bytes).sum(),
            watermark: self.current_watermark(),
            newest,
        }
    }

    fn current_watermark(&self) -> Option<Micros> {
        Some(self.watermark.current()).filter(|&time| time != Micros::MIN && time != Micros::MAX)
    }

    /// Works out, for days that are over, what was usual among peers, whose groups are in all shards.
    fn close_days(&mut self, watermark: Micros) {
        for &place in &self.following {
            let all = || self.shards.iter().filter_map(|shard| shard.detector(place).profiles());
            let Some(first) = all().next() else { continue };
            // After a restart some shards can be ahead of others.
            let over = all().map(|profiles| profiles.over(watermark)).min_by_key(|over| over.start);
            let Some(over) = over.filter(|over| !over.is_empty()) else { continue };
            let today = over.end;
            let full_from = all().filter_map(Profiles::full_from).min().unwrap_or(Day::MAX);
            let levels: Vec<_> = over
                .filter(|&day| day >= full_from)
                .map(|day| {
                    let mut by_peer = ByPeer::default();
                    all().for_each(|profiles| profiles.on(day, &mut by_peer));
                    let usual =
                        by_peer.into_iter().filter_map(|(peer, groups)| Some((peer, first.among(groups)?)));
                    (day, usual.collect())
                })
                .collect();
            for shard in &mut self.shards {
                shard.detector_mut(place).close_days(today, &levels);
            }
        }
    }

    /// Counts openings in the streams from `first` on.
    fn count_openings(&mut self, first: usize, openings: &[Announced]) {
        for (at, spec) in
            self.specs.iter().enumerate().skip(first).filter(|(_, spec)| !spec.openings.is_empty())
        {
            let mut intakes: [Intake; SHARDS] = Default::default();
            self.lanes[0].matched[at] += spec.take_in_openings(openings, &self.keyring, &mut intakes);
            for (shard, intake) in self.shards.iter_mut().zip(&mut intakes) {
                shard.streams[at].count_openings(intake, openings, spec);
            }
        }
    }

    fn settled(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        self.settle(&mut outcome);
        outcome
    }

    fn settle(&mut self, outcome: &mut Outcome) {
        let watermark = self.watermark.current();
        for level in self.levels.clone() {
            for shard in &mut self.shards {
                shard.settle(level.clone(), watermark, &mut outcome.changes);
            }
            let settled = self.shards.iter_mut().flat_map(|shard| &mut shard.streams[level.clone()]);
            let openings: Vec<Announced> = settled.flat_map(KeyedStream::take_announced).collect();
            if !openings.is_empty() {
                self.count_openings(level.end, &openings);
            }
        }
        self.close_days(watermark);
        outcome.watermark = self.current_watermark();
    }
}

fn micros(millis: u64) -> Micros {
    Micros::try_from(millis).unwrap_or(Micros::MAX).saturating_mul(1000)
}

fn random_keyring() -> Keyring {
    // The standard library seeds its hasher from the operating system's randomness.
    let seed = RandomState::new();
    let mut key = [0; 16];
    key[..8].copy_from_slice(&seed.hash_one(0).to_le_bytes());
    key[8..].copy_from_slice(&seed.hash_one(1).to_le_bytes());
    Keyring::new(key)
}

/// The lines of `text` that end within its first `bytes` or are the first to end behind, and the rest.
fn split_after_line(text: &[u8], bytes: usize) -> (&[u8], &[u8]) {
    let from = bytes.min(text.len()).saturating_sub(1);
    text.split_at(memchr::memchr(b'\n', &text[from..]).map_or(text.len(), |at| from + at + 1))
}

/// The lowest watermark once some of what is to be counted next has been.
fn next_watermark(dealt: &[Vec<Piece<'_>>]) -> Option<Micros> {
    dealt.iter().flatten().filter_map(Piece::next_watermark).min()
}

fn records_in(batches: &[Sealed<'_>]) -> usize {
    batches.iter().map(Sealed::records).sum()
}

/// How many batches it takes to have so many records, or all.
fn batches_with(batches: &[Sealed<'_>], records: usize) -> usize {
    let mut sum = 0;
    let enough = batches.iter().position(|batch| {
        sum += batch.records();
        sum >= records
    });
    enough.map_or(batches.len(), |at| at + 1)
}
