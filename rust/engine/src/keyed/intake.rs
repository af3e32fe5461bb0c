//! Intake: which events a keyed stream has, in which groups, with which values.
//!
//! Taking in and counting are apart, so that counting knows which groups are next and can have their memory on its
//! way, and so that lanes can take in at once what shards then count.

use crate::detect::Announced;
use crate::field::{Event, EventReader, FieldId, Scalar};
use crate::key::{Fingerprint, Keyring};
use crate::plan::{Share, SievePlan};
use crate::shard::SHARDS;
use crate::snapshot::Resume;
use crate::time::Micros;
use crate::watermark::StreamClock;
use smallvec::SmallVec;
use std::slice;

/// An event to be counted in one group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    pub(super) print: Fingerprint,
    pub(super) time: Micros,
    /// The largest event time before it in the piece.
    pub(super) newest: Micros,
    /// The event's place in the piece.
    event: u32,
    /// Where its values' ranges begin in [`Values::ranges`], or [`IN_PLACE`].
    ranges: u32,
    /// The group's slot, once it has been looked up.
    pub(super) slot: u32,
    /// Its value, where that is all there is to be counted.
    value: Fingerprint,
}

impl Work {
    /// The watermark once the event has been observed.
    pub(super) fn watermark_with(&self, clock: StreamClock) -> Micros {
        clock.watermark_after(self.newest.max(self.time))
    }
}

/// The values of one field are counted, and the event has one, as almost all have: it is in [`Work::value`].
const IN_PLACE: u32 = u32::MAX;

/// What a stream has to count of a piece of a batch.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    pub(super) work: Vec<Work>,
    /// How much of the work is done.
    pub(super) done: usize,
    pub(super) values: Values,
}

impl Intake {
    /// The watermark once what is to be counted next has been; `clock` is as it stood before the piece.
    pub(crate) fn next_watermark(&self, clock: StreamClock) -> Option<Micros> {
        self.work.get(self.done).map(|one| one.watermark_with(clock))
    }

    /// Leaves only the openings for whose place `keep` holds.
    pub(super) fn retain_openings(&mut self, mut keep: impl FnMut(usize) -> bool) {
        self.work.retain(|work| keep(work.event as usize));
    }

    pub(super) fn clear(&mut self) {
        self.done = 0;
        self.work.clear();
        self.values.prints.clear();
        self.values.ranges.clear();
    }
}

/// The values that are counted.
#[derive(Debug, Default)]
pub(super) struct Values {
    prints: Vec<Fingerprint>,
    /// For each event, for each field whose values are counted: where its values lie.
    ranges: Vec<(u32, u32)>,
}

impl Values {
    /// An event's values of the stream's `field`th counted field.
    #[inline]
    pub(super) fn of<'v>(&'v self, work: &'v Work, field: usize) -> &'v [Fingerprint] {
        if work.ranges == IN_PLACE {
            return slice::from_ref(&work.value);
        }
        let (from, to) = self.ranges[work.ranges as usize + field];
        &self.prints[from as usize..to as usize]
    }

    /// Leaves an event only those of its values of a field for which `keep` holds. Returns whether there are any.
    pub(super) fn retain(
        &mut self,
        work: &Work,
        field: usize,
        mut keep: impl FnMut(Fingerprint) -> bool,
    ) -> bool {
        if work.ranges == IN_PLACE {
            return keep(work.value);
        }
        let (from, to) = &mut self.ranges[work.ranges as usize + field];
        let first = *from as usize;
        let mut kept = first;
        for at in first..*to as usize {
            if keep(self.prints[at]) {
                self.prints.swap(kept, at);
                kept += 1;
            }
        }
        *to = kept as u32;
        kept > first
    }

    /// Keeps what an event has of what is counted; returns where. `met` says of each condition whether it meets it,
    /// `through` by which of them it is in its group.
    #[inline]
    fn take(
        &mut self,
        event: &Event<'_>,
        (met, through): (&[bool], Through),
        counted: &[Measure],
        keyring: &Keyring,
    ) -> u32 {
        let ranges = self.ranges.len() as u32;
        for measure in counted {
            let first = self.prints.len();
            match measure {
                &Measure::Values(field) => {
                    if let Some(print) = event.only_print(field, keyring) {
                        self.prints.push(print);
                    } else {
                        let scalars = event.scalars(field).iter();
                        self.prints.extend(scalars.map(|&scalar| event.print(scalar, keyring)));
                        self.drop_repeats(first);
                    }
                }
                Measure::Met(conditions) => {
                    // Known by their places in the rule, which are the same in every engine.
                    let places = conditions
                        .iter()
                        .enumerate()
                        .filter(|&(at, &condition)| met[condition] && through.has(at));
                    self.prints.extend(places.map(|(place, _)| part_print(place, keyring)));
                }
                &Measure::Amounts(field) => {
                    let amounts =
                        event.scalars(field).iter().map(|&scalar| event.text(scalar).parse::<f64>());
                    self.prints
                        .extend(amounts.flatten().filter(|amount| amount.is_finite()).map(f64::to_bits));
                }
                Measure::Moment(conditions) => {
                    let bits =
                        conditions.iter().enumerate().map(|(at, &condition)| u64::from(met[condition]) << at);
                    self.prints.push(through.0 & bits.fold(0, |all, bit| all | bit));
                }
            }
            self.ranges.push((first as u32, self.prints.len() as u32));
        }
        ranges
    }

    /// Keeps what the opening of a finding has of what is counted; returns where.
    fn take_opening(&mut self, of: &[OpeningMeasure], opening: &Announced, keyring: &Keyring) -> u32 {
        let ranges = self.ranges.len() as u32;
        for measure in of {
            let first = self.prints.len();
            self.prints.extend(match *measure {
                OpeningMeasure::Name(at) => opening.group.get(at).map(|name| keyring.print(name.as_bytes())),
                OpeningMeasure::Number(at) => {
                    let number = opening.group.get(at).and_then(|name| name.parse::<f64>().ok());
                    number.filter(|number| number.is_finite()).map(f64::to_bits)
                }
                OpeningMeasure::Peak => Some(opening.peak.to_bits()),
                OpeningMeasure::Points(points) => Some(points.to_bits()),
                OpeningMeasure::Part(place) => Some(part_print(place, keyring)),
                OpeningMeasure::Bit(place) => Some(1 << place),
                OpeningMeasure::Nothing => None,
            });
            self.ranges.push((first as u32, self.prints.len() as u32));
        }
        ranges
    }

    /// A list that names a value twice counts it once.
    #[cold]
    fn drop_repeats(&mut self, first: usize) {
        let mut listed = self.prints.split_off(first);
        listed.sort_unstable();
        listed.dedup();
        self.prints.append(&mut listed);
    }
}

/// The branches by which an event is in a group, a bit each.
#[derive(Debug, Clone, Copy)]
struct Through(u64);

impl Through {
    const ALL: Self = Self(u64::MAX);

    fn has(self, branch: usize) -> bool {
        self.0 >> (branch & 63) & 1 == 1
    }
}

/// What stands for a condition, by its place in its rule.
fn part_print(place: usize, keyring: &Keyring) -> Fingerprint {
    keyring.print(&place.to_le_bytes())
}

/// What of the opening of a finding is counted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum OpeningMeasure {
    /// One of its group's names.
    Name(usize),
    /// One of these, as a number.
    Number(usize),
    /// The largest count so far.
    Peak,
    /// What it is worth.
    Points(f64),
    /// That it is the rule's part at this place.
    Part(usize),
    /// The same, as a bit.
    Bit(usize),
    /// It has nothing of it.
    Nothing,
}

/// The openings of one rule's findings, as events of a stream.
#[derive(Debug, Clone)]
pub(crate) struct OpeningSpec {
    /// The rule's number in the plan.
    pub(crate) rule: usize,
    /// Which of its group's names make the group here.
    pub(crate) group: Vec<usize>,
    /// By what the stream counts.
    pub(crate) counted: Vec<OpeningMeasure>,
}

impl OpeningSpec {
    /// What makes it the same for two rules.
    pub(crate) fn key(&self) -> (usize, &[usize]) {
        (self.rule, &self.group)
    }
}

/// What of an event is counted, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Measure {
    /// The values of a field.
    Values(FieldId),
    /// Which of these conditions it meets, by their places among the engine's.
    Met(Vec<usize>),
    /// The bits of a field's numbers, each time they come.
    Amounts(FieldId),
    /// Which of these conditions it meets at once, a bit each.
    Moment(Vec<usize>),
}

/// An event to be taken in, and what that depends on.
#[derive(Clone, Copy)]
pub(crate) struct Taking<'a> {
    pub(crate) event: &'a Event<'a>,
    /// Its place in the piece.
    pub(crate) at: usize,
    pub(crate) time: Micros,
    /// The largest event time before it in the piece.
    pub(crate) newest: Micros,
    /// Its position in its stream.
    pub(crate) position: u64,
    /// Of each of the engine's conditions: whether it meets it.
    pub(crate) met: &'a [bool],
    pub(crate) keyring: &'a Keyring,
    /// After a restart: what has been counted before.
    pub(crate) resume: Option<&'a Resume>,
    /// Other groups than this share's are counted elsewhere.
    pub(crate) share: Option<Share>,
}

/// What makes a keyed stream: which events, grouped by what; and what its windows count.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamSpec {
    /// The condition's place among the engine's.
    pub(crate) condition: usize,
    pub(crate) grouping: Grouping,
    /// Openings of findings that are its events too.
    pub(crate) openings: Vec<OpeningSpec>,
    /// How far it is behind the watermark, so that openings are in time.
    pub(crate) delay: Micros,
    /// Which of these events count, with the place of the field it asks for among what is counted.
    pub(crate) sieve: Option<(SievePlan, Option<usize>)>,
    /// What some window counts the distinct ones of.
    pub(crate) counted: Vec<Measure>,
}

impl StreamSpec {
    /// Has something counted, which it may be already; returns its place. `of_openings` says what each of its openings has
    /// of it.
    pub(crate) fn count(
        &mut self,
        measure: Measure,
        of_openings: impl Iterator<Item = OpeningMeasure>,
    ) -> usize {
        self.counted.iter().position(|known| *known == measure).unwrap_or_else(|| {
            self.counted.push(measure);
            self.openings.iter_mut().zip(of_openings).for_each(|(spec, of)| spec.counted.push(of));
            self.counted.len() - 1
        })
    }

    /// Takes in an event that meets the condition: into the `stream`th intake of the shard that has its group.
    #[inline]
    pub(crate) fn take_in(&self, taking: &Taking<'_>, stream: usize, shards: &mut [Vec<Intake>]) {
        let Taking { event, met, keyring, .. } = *taking;
        if let Some(print) = self.only_print(event, keyring) {
            return self.take_in_group((print, Through::ALL), taking, stream, shards);
        }
        self.for_each_of_several(event, met, keyring, &mut |print, through| {
            self.take_in_group((print, through), taking, stream, shards);
        });
    }

    /// Takes in an event in one of its groups.
    #[inline(always)]
    #[allow(clippy::inline_always)] // once an event; the other caller is cold
    fn take_in_group(
        &self,
        (print, through): (Fingerprint, Through),
        taking: &Taking<'_>,
        stream: usize,
        shards: &mut [Vec<Intake>],
    ) {
        if taking.share.is_some_and(|share| !share.has(print)) {
            return;
        }
        let shard = print as u32 as usize % SHARDS;
        if taking.resume.is_some_and(|resume| taking.position < resume.from(shard, stream)) {
            return;
        }
        let &Taking { event, at, time, newest, met, keyring, .. } = taking;
        let intake = &mut shards[shard][stream];
        let only = match &self.counted[..] {
            &[Measure::Values(field)] => event.only_print(field, keyring),
            _ => None,
        };
        let (ranges, value) = match only {
            Some(value) => (IN_PLACE, value),
            None => (intake.values.take(event, (met, through), &self.counted, keyring), 0),
        };
        intake.work.push(Work { print, time, newest, event: at as u32, ranges, slot: 0, value });
    }

    /// The group of an event that is in just one, by all there is.
    #[inline]
    fn only_print(&self, event: &Event<'_>, keyring: &Keyring) -> Option<Fingerprint> {
        if self.grouping.branches.is_empty() {
            only_group(event, &self.grouping.fields, keyring)
        } else {
            None
        }
    }

    /// Names the groups of an event, each once, where there may be several, or none.
    #[cold]
    fn for_each_of_several(
        &self,
        event: &Event<'_>,
        met: &[bool],
        keyring: &Keyring,
        each: &mut dyn FnMut(Fingerprint, Through),
    ) {
        let Grouping { fields, branches } = &self.grouping;
        if !branches.is_empty() {
            return for_each_by_branch(event, branches, met, keyring, each);
        }
        // A list can name a group twice.
        let mut known: SmallVec<[Fingerprint; 4]> = SmallVec::new();
        for_each_group(event, fields, keyring, &mut |print, _| {
            if !known.contains(&print) {
                known.push(print);
                each(print, Through::ALL);
            }
        });
    }

    /// Names the groups of an event that meets the condition, each once.
    pub(crate) fn for_each_group(
        &self,
        event: &Event<'_>,
        met: &[bool],
        keyring: &Keyring,
        each: &mut impl FnMut(Fingerprint),
    ) {
        match self.only_print(event, keyring) {
            Some(print) => each(print),
            None => self.for_each_of_several(event, met, keyring, &mut |print, _| each(print)),
        }
    }

    /// Takes in those of `openings` that are events here, into the `stream`th intake of the shard that has their group.
    /// Returns how many there are.
    pub(crate) fn take_in_openings(
        &self,
        openings: &[Announced],
        keyring: &Keyring,
        shards: &mut [Intake],
    ) -> u64 {
        let mut taken = 0;
        for (at, opening) in openings.iter().enumerate() {
            for spec in self.openings.iter().filter(|spec| spec.rule == opening.rule) {
                let names = spec.group.iter().filter_map(|&name| opening.group.get(name));
                let prints: SmallVec<[Fingerprint; 4]> =
                    names.map(|name| keyring.print(name.as_bytes())).collect();
                let print = keyring.combine(&prints);
                let intake = &mut shards[print as u32 as usize % SHARDS];
                let ranges = intake.values.take_opening(&spec.counted, opening, keyring);
                let (time, event) = (opening.time, at as u32);
                intake.work.push(Work { print, time, newest: Micros::MIN, event, ranges, slot: 0, value: 0 });
                taken += 1;
            }
        }
        taken
    }

    /// The names of the group that an opening is in here.
    fn names_of(&self, opening: &Announced) -> Vec<String> {
        let spec = self.openings.iter().find(|spec| spec.rule == opening.rule);
        let names = spec.into_iter().flat_map(|spec| &spec.group);
        names.filter_map(|&name| opening.group.get(name).cloned()).collect()
    }
}

/// What makes the groups of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Grouping {
    /// The fields whose values do; those of branches, where there are any.
    pub(crate) fields: Vec<FieldId>,
    /// Of each its place in its rule, its condition's among the engine's, and the fields of the events that meet it.
    pub(crate) branches: Vec<(usize, usize, Vec<FieldId>)>,
}

impl Grouping {
    /// All lists of fields that make a group.
    fn lists(&self) -> impl Iterator<Item = &[FieldId]> {
        let plain = self.branches.is_empty().then_some(&self.fields[..]);
        plain.into_iter().chain(self.branches.iter().map(|(_, _, fields)| &fields[..]))
    }
}

/// Every group an event is in by some branch, and by which.
fn for_each_by_branch(
    event: &Event<'_>,
    branches: &[(usize, usize, Vec<FieldId>)],
    met: &[bool],
    keyring: &Keyring,
    each: &mut dyn FnMut(Fingerprint, Through),
) {
    let mut known: SmallVec<[(Fingerprint, u64); 4]> = SmallVec::new();
    for (part, condition, fields) in branches {
        if met[*condition] {
            for_each_group(event, fields, keyring, &mut |print, _| match known
                .iter_mut()
                .find(|(known, _)| *known == print)
            {
                Some((_, through)) => *through |= 1 << part,
                None => known.push((print, 1 << part)),
            });
        }
    }
    known.into_iter().for_each(|(print, through)| each(print, Through(through)));
}

/// Gives names back to fingerprints: only a new finding needs them.
pub(crate) enum Names<'a> {
    /// By reading the event again.
    Events { events: &'a [&'a [u8]], reader: &'a mut EventReader, keyring: Keyring },
    /// From the openings at hand.
    Openings { openings: &'a [Announced], spec: &'a StreamSpec },
}

impl Names<'_> {
    pub(super) fn of(&mut self, work: &Work, grouping: &Grouping) -> Vec<String> {
        let at = work.event as usize;
        let mut names = Vec::new();
        match self {
            Self::Openings { openings, spec } => {
                names = openings.get(at).map(|opening| spec.names_of(opening)).unwrap_or_default();
            }
            Self::Events { events, reader, keyring } => {
                let record = events.get(at).and_then(|bytes| std::str::from_utf8(bytes).ok());
                let Some(Ok(event)) = record.map(|record| reader.read(record)) else { return names };
                for fields in grouping.lists() {
                    for_each_group(&event, fields, keyring, &mut |print, combination| {
                        if print == work.print && names.is_empty() {
                            names.extend(combination.iter().map(|&scalar| event.text(scalar).to_owned()));
                        }
                    });
                }
            }
        }
        names
    }
}

/// The group of an event that has one scalar in each field: almost always.
#[inline]
fn only_group(event: &Event<'_>, fields: &[FieldId], keyring: &Keyring) -> Option<Fingerprint> {
    let only = |field: FieldId| event.only_print(field, keyring);
    match *fields {
        [field] => only(field),
        [first, second] => Some(keyring.combine(&[only(first)?, only(second)?])),
        _ => {
            let prints = fields.iter().map(|&field| only(field));
            Some(keyring.combine(&prints.collect::<Option<SmallVec<[Fingerprint; 4]>>>()?))
        }
    }
}

/// Every group an event is in: one for each way to take one scalar of each field, none when a field has none.
/// A group can come more than once where a list repeats a value.
fn for_each_group(
    event: &Event<'_>,
    fields: &[FieldId],
    keyring: &Keyring,
    each: &mut impl FnMut(Fingerprint, &[Scalar]),
) {
    let mut chosen: SmallVec<[Scalar; 4]> = SmallVec::new();
    descend(event, fields, &mut chosen, &mut |combination| {
        let prints: SmallVec<[Fingerprint; 4]> =
            combination.iter().map(|&scalar| event.print(scalar, keyring)).collect();
        each(keyring.combine(&prints), combination);
    });
}

fn descend(
    event: &Event<'_>,
    fields: &[FieldId],
    chosen: &mut SmallVec<[Scalar; 4]>,
    each: &mut impl FnMut(&[Scalar]),
) {
    let Some((&field, rest)) = fields.split_first() else { return each(chosen) };
    for &scalar in event.scalars(field) {
        chosen.push(scalar);
        descend(event, rest, chosen, each);
        chosen.pop();
    }
}
