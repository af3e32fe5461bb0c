//! Routing: determines which groups an event belongs to and which of its values are counted, and appends it to the
//! batch of the right shard.
//!
//! Routing runs in the ingest workers, in parallel; counting runs later in the shards. Because a batch is complete
//! before it is counted, the shard knows the next groups and can prefetch their memory.
//!
//! The same code routes finding openings of upstream rules, which are the events of correlations of correlations. A
//! *branch* is one of the conditions of such a rule, or of a rule that combines several conditions, with its own
//! group-by fields.

use super::resume::Resume;
use crate::decode::reject::Reason;
use crate::detect::FinalOpening;
use crate::event::field::{Event, EventReader, FieldId, Problem, Scalar};
use crate::foundation::fingerprint::{Fingerprint, Fingerprinter};
use crate::foundation::group_name::GroupName;
use crate::foundation::partition::{partition_of, shard_of};
use crate::foundation::time::Micros;
use crate::foundation::watermark::StreamClock;
use crate::plan::{NoveltyPlan, Partition};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::slice;

/// An event to count in one group.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyedEvent {
    pub(super) fingerprint: Fingerprint,
    pub(super) time: Micros,
    /// Largest event time earlier in the chunk, from which the watermark at this event follows.
    pub(super) newest: Micros,
    /// Index of the event in the chunk.
    event_index: u32,
    /// Index of its first range in [`EventValues::ranges`], or [`IN_PLACE`].
    ranges: u32,
    /// Slot of the group, filled in by the shard.
    pub(super) slot: u32,
    /// The value, if it is the only one to count.
    value: Fingerprint,
}

impl KeyedEvent {
    /// The watermark after this event.
    pub(super) fn watermark_with(&self, clock: StreamClock) -> Micros {
        clock.watermark_after(self.newest.max(self.time))
    }
}

/// Marks the common case: one field is counted and the event has one value, stored in [`KeyedEvent::value`].
const IN_PLACE: u32 = u32::MAX;

/// The events of one chunk to count in one stream and shard.
#[derive(Debug, Default)]
pub(crate) struct KeyedBatch {
    pub(super) events: Vec<KeyedEvent>,
    /// Number of events already counted.
    pub(super) done: usize,
    pub(super) values: EventValues,
}

impl KeyedBatch {
    /// The watermark after the next event to count; `clock` is the stream's clock before the chunk.
    pub(crate) fn next_watermark(&self, clock: StreamClock) -> Option<Micros> {
        self.events.get(self.done).map(|keyed| keyed.watermark_with(clock))
    }

    /// Keeps only the openings for whose index `keep` returns true.
    pub(super) fn retain_openings(&mut self, mut keep: impl FnMut(usize) -> bool) {
        self.events.retain(|keyed| keep(keyed.event_index as usize));
    }

    pub(super) fn clear(&mut self) {
        self.done = 0;
        self.events.clear();
        self.values.fingerprints.clear();
        self.values.ranges.clear();
    }
}

/// The values to count. Those of each event and value source are a range of one list.
#[derive(Debug, Default)]
pub(super) struct EventValues {
    /// Depending on the value source: fingerprints of distinct values, IEEE bits of amounts, or bit sets of conditions.
    fingerprints: Vec<Fingerprint>,
    /// For each event and value source, the range of its values in `fingerprints`.
    ranges: Vec<(u32, u32)>,
}

impl EventValues {
    /// The values of an event for value source number `field`.
    #[inline]
    pub(super) fn of<'v>(&'v self, keyed: &'v KeyedEvent, field: usize) -> &'v [Fingerprint] {
        if keyed.ranges == IN_PLACE {
            return slice::from_ref(&keyed.value);
        }
        let (from, to) = self.ranges[keyed.ranges as usize + field];
        &self.fingerprints[from as usize..to as usize]
    }

    /// Keeps only those values of an event for which `keep` returns true. Returns whether any are left.
    pub(super) fn retain(
        &mut self,
        keyed: &KeyedEvent,
        field: usize,
        mut keep: impl FnMut(Fingerprint) -> bool,
    ) -> bool {
        if keyed.ranges == IN_PLACE {
            return keep(keyed.value);
        }
        let (from, to) = &mut self.ranges[keyed.ranges as usize + field];
        let first = *from as usize;
        let mut kept = first;
        for index in first..*to as usize {
            if keep(self.fingerprints[index]) {
                self.fingerprints.swap(kept, index);
                kept += 1;
            }
        }
        *to = kept as u32;
        kept > first
    }

    /// Appends the values of an event and returns the index of its first range. `met` holds the result of every
    /// condition; `through` marks the branches that put the event into this group.
    #[inline]
    fn take(
        &mut self,
        event: &Event<'_>,
        (met, through): (&[bool], BranchSet),
        counted: &[ValueSource],
        fingerprinter: &Fingerprinter,
    ) -> u32 {
        let ranges = self.ranges.len() as u32;
        for source in counted {
            let first = self.fingerprints.len();
            match source {
                &ValueSource::Values(field) => {
                    if let Some(fingerprint) = event.single_fingerprint(field, fingerprinter) {
                        self.fingerprints.push(fingerprint);
                    } else {
                        let scalars = event.scalars(field).iter();
                        self.fingerprints
                            .extend(scalars.map(|&scalar| event.fingerprint(scalar, fingerprinter)));
                        self.drop_repeats(first);
                    }
                }
                ValueSource::Met(conditions) => {
                    // Conditions are counted by their index in the rule, which is the same in every engine.
                    let places = conditions
                        .iter()
                        .enumerate()
                        .filter(|&(index, &condition)| met[condition] && through.has(index));
                    self.fingerprints.extend(places.map(|(place, _)| part_fingerprint(place, fingerprinter)));
                }
                &ValueSource::Amounts(field) => {
                    let amounts =
                        event.scalars(field).iter().map(|&scalar| event.text(scalar).parse::<f64>());
                    self.fingerprints
                        .extend(amounts.flatten().filter(|amount| amount.is_finite()).map(f64::to_bits));
                }
                ValueSource::Moment(conditions) => {
                    let bits = conditions
                        .iter()
                        .enumerate()
                        .map(|(index, &condition)| u64::from(met[condition]) << index);
                    self.fingerprints.push(through.0 & bits.fold(0, |all, bit| all | bit));
                }
            }
            self.ranges.push((first as u32, self.fingerprints.len() as u32));
        }
        ranges
    }

    /// Appends the values of a finding opening and returns the index of its first range.
    fn take_opening(
        &mut self,
        of: &[OpeningValueSource],
        opening: &FinalOpening,
        fingerprinter: &Fingerprinter,
    ) -> u32 {
        let ranges = self.ranges.len() as u32;
        for source in of {
            let first = self.fingerprints.len();
            self.fingerprints.extend(match *source {
                OpeningValueSource::Name(index) => {
                    opening.group.key().get(index).map(|name| fingerprinter.fingerprint(name.as_bytes()))
                }
                OpeningValueSource::Number(index) => {
                    let number = opening.group.key().get(index).and_then(|name| name.parse::<f64>().ok());
                    number.filter(|number| number.is_finite()).map(f64::to_bits)
                }
                OpeningValueSource::Peak => Some(opening.peak.to_bits()),
                OpeningValueSource::Points(points) => Some(points.to_bits()),
                OpeningValueSource::Part(place) => Some(part_fingerprint(place, fingerprinter)),
                OpeningValueSource::Bit(place) => Some(1 << place),
                OpeningValueSource::Nothing => None,
            });
            self.ranges.push((first as u32, self.fingerprints.len() as u32));
        }
        ranges
    }

    /// Removes duplicates: a value that a list contains twice counts once.
    #[cold]
    fn drop_repeats(&mut self, first: usize) {
        let mut listed = self.fingerprints.split_off(first);
        listed.sort_unstable();
        listed.dedup();
        self.fingerprints.append(&mut listed);
    }
}

/// The branches through which an event is in a group, as a bit set.
#[derive(Debug, Clone, Copy)]
struct BranchSet(u64);

impl BranchSet {
    const ALL: Self = Self(u64::MAX);

    fn has(self, branch: usize) -> bool {
        self.0 >> (branch & 63) & 1 == 1
    }
}

/// Fingerprint that represents a condition, by its index in the rule.
fn part_fingerprint(place: usize, fingerprinter: &Fingerprinter) -> Fingerprint {
    fingerprinter.fingerprint(&place.to_le_bytes())
}

/// Which value of a finding opening is counted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum OpeningValueSource {
    /// One of the group's names.
    Name(usize),
    /// One of the group's names, as a number.
    Number(usize),
    /// The largest count so far.
    Peak,
    /// A fixed number of points.
    Points(f64),
    /// The index of the branch, as a distinct value.
    Part(usize),
    /// The index of the branch, as a bit.
    Bit(usize),
    /// No value.
    Nothing,
}

/// Finding openings of one rule, as input of a stream.
#[derive(Debug, Clone)]
pub(crate) struct OpeningSpec {
    /// Index of the rule in the plan.
    pub(crate) rule: usize,
    /// Indices of the group names that make the group in this stream.
    pub(crate) group: Vec<usize>,
    /// Value to count, per value source of the stream.
    pub(crate) counted: Vec<OpeningValueSource>,
}

impl OpeningSpec {
    /// Two rules with equal keys can share the input.
    pub(crate) fn key(&self) -> (usize, &[usize]) {
        (self.rule, &self.group)
    }
}

/// Which values of an event are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ValueSource {
    /// The values of a field, each once.
    Values(FieldId),
    /// The conditions that the event meets, by their index among the engine's conditions.
    Met(Vec<usize>),
    /// The numbers of a field as IEEE bits, duplicates included.
    Amounts(FieldId),
    /// The conditions that the event meets, as one bit set.
    Moment(Vec<usize>),
}

/// An event to route, with everything that routing needs.
#[derive(Clone, Copy)]
pub(crate) struct RouteContext<'a> {
    pub(crate) event: &'a Event<'a>,
    /// Index of the event in the chunk.
    pub(crate) event_index: usize,
    pub(crate) time: Micros,
    /// Largest event time earlier in the chunk.
    pub(crate) newest: Micros,
    /// Position in the source stream: an offset or a line number.
    pub(crate) position: u64,
    /// Result of each of the engine's conditions for this event.
    pub(crate) met: &'a [bool],
    pub(crate) fingerprinter: &'a Fingerprinter,
    /// After a restore, the positions up to which events were counted before.
    pub(crate) resume: Option<&'a Resume>,
    /// Partition counted by this engine; `None` to count all groups.
    pub(crate) partition: Option<Partition>,
}

/// Definition of a keyed stream: its events, their grouping, and what its windows count.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamSpec {
    /// Index of the condition among the engine's conditions.
    pub(crate) condition: usize,
    pub(crate) grouping: Grouping,
    /// Finding openings of other rules that are events of this stream.
    pub(crate) openings: Vec<OpeningSpec>,
    /// Lag behind the watermark, in microseconds, that lets openings arrive in time.
    pub(crate) delay: Micros,
    /// Novelty filter, with the index of the value source it tests.
    pub(crate) novelty: Option<(NoveltyPlan, Option<usize>)>,
    /// Value sources of all windows, each once.
    pub(crate) counted: Vec<ValueSource>,
}

impl StreamSpec {
    /// Registers a value source of a window and returns its index; equal sources share one. `of_openings` gives the
    /// corresponding source for each of [`Self::openings`].
    pub(crate) fn count(
        &mut self,
        source: ValueSource,
        of_openings: impl Iterator<Item = OpeningValueSource>,
    ) -> usize {
        self.counted.iter().position(|known| *known == source).unwrap_or_else(|| {
            self.counted.push(source);
            self.openings.iter_mut().zip(of_openings).for_each(|(spec, of)| spec.counted.push(of));
            self.counted.len() - 1
        })
    }

    /// Routes an event that meets the condition into batch number `stream` of the shards that count its groups.
    #[inline]
    pub(crate) fn route(&self, context: &RouteContext<'_>, stream: usize, shards: &mut [Vec<KeyedBatch>]) {
        let RouteContext { event, met, fingerprinter, .. } = *context;
        if let Some(fingerprint) = self.single_fingerprint(event, fingerprinter) {
            return self.route_to_group((fingerprint, BranchSet::ALL), context, stream, shards);
        }
        self.for_each_of_several(event, met, fingerprinter, &mut |fingerprint, through| {
            self.route_to_group((fingerprint, through), context, stream, shards);
        });
    }

    /// Routes an event to one of its groups.
    #[inline(always)]
    #[allow(clippy::inline_always)] // called once per event; the other caller is cold
    fn route_to_group(
        &self,
        (fingerprint, through): (Fingerprint, BranchSet),
        context: &RouteContext<'_>,
        stream: usize,
        shards: &mut [Vec<KeyedBatch>],
    ) {
        if context.partition.is_some_and(|own| partition_of(fingerprint, own.of) != own.index) {
            return;
        }
        let shard = shard_of(fingerprint);
        if context.resume.is_some_and(|resume| context.position < resume.from(shard, stream)) {
            return;
        }
        let &RouteContext { event, event_index, time, newest, met, fingerprinter, .. } = context;
        let batch = &mut shards[shard][stream];
        let only = match &self.counted[..] {
            &[ValueSource::Values(field)] => event.single_fingerprint(field, fingerprinter),
            _ => None,
        };
        let (ranges, value) = match only {
            Some(value) => (IN_PLACE, value),
            None => (batch.values.take(event, (met, through), &self.counted, fingerprinter), 0),
        };
        batch.events.push(KeyedEvent {
            fingerprint,
            time,
            newest,
            event_index: event_index as u32,
            ranges,
            slot: 0,
            value,
        });
    }

    /// Fingerprint of the group of an event that is in exactly one.
    #[inline]
    fn single_fingerprint(&self, event: &Event<'_>, fingerprinter: &Fingerprinter) -> Option<Fingerprint> {
        if self.grouping.branches.is_empty() {
            only_group(event, &self.grouping.fields, fingerprinter)
        } else {
            None
        }
    }

    /// Calls `each` for every group of an event that may be in several groups, or in none.
    #[cold]
    fn for_each_of_several(
        &self,
        event: &Event<'_>,
        met: &[bool],
        fingerprinter: &Fingerprinter,
        each: &mut dyn FnMut(Fingerprint, BranchSet),
    ) {
        let Grouping { fields, branches } = &self.grouping;
        if !branches.is_empty() {
            return for_each_by_branch(event, branches, met, fingerprinter, each);
        }
        // A list can contain the same group twice.
        let mut known: SmallVec<[Fingerprint; 4]> = SmallVec::new();
        for_each_group(event, fields, fingerprinter, &mut |fingerprint, _| {
            if !known.contains(&fingerprint) {
                known.push(fingerprint);
                each(fingerprint, BranchSet::ALL);
            }
        });
    }

    /// Calls `each` once for every group of an event that meets the condition.
    pub(crate) fn for_each_group(
        &self,
        event: &Event<'_>,
        met: &[bool],
        fingerprinter: &Fingerprinter,
        each: &mut impl FnMut(Fingerprint),
    ) {
        match self.single_fingerprint(event, fingerprinter) {
            Some(fingerprint) => each(fingerprint),
            None => {
                self.for_each_of_several(event, met, fingerprinter, &mut |fingerprint, _| each(fingerprint));
            }
        }
    }

    /// Routes those of `openings` that are events of this stream into batch number `stream` of their shards. Returns
    /// how many.
    pub(crate) fn route_openings(
        &self,
        openings: &[FinalOpening],
        fingerprinter: &Fingerprinter,
        shards: &mut [KeyedBatch],
    ) -> u64 {
        let mut routed = 0;
        for (index, opening) in openings.iter().enumerate() {
            for spec in self.openings.iter().filter(|spec| spec.rule == opening.rule) {
                let names = spec.group.iter().filter_map(|&name| opening.group.key().get(name));
                let fingerprints: SmallVec<[Fingerprint; 4]> =
                    names.map(|name| fingerprinter.fingerprint(name.as_bytes())).collect();
                let fingerprint = fingerprinter.combine(&fingerprints);
                let batch = &mut shards[shard_of(fingerprint)];
                let ranges = batch.values.take_opening(&spec.counted, opening, fingerprinter);
                let (time, event_index) = (opening.time, index as u32);
                batch.events.push(KeyedEvent {
                    fingerprint,
                    time,
                    newest: Micros::MIN,
                    event_index,
                    ranges,
                    slot: 0,
                    value: 0,
                });
                routed += 1;
            }
        }
        routed
    }

    /// Names of the group that an opening belongs to in this stream.
    fn names_of(&self, opening: &FinalOpening) -> GroupName {
        let spec = self.openings.iter().find(|spec| spec.rule == opening.rule);
        spec.map(|spec| opening.group.select(&spec.group)).unwrap_or_default()
    }
}

/// Grouping of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Grouping {
    /// Fields whose values make the group; those of `branches` apply instead if there are any.
    pub(crate) fields: Vec<FieldId>,
    /// For each branch: index in the rule, index of its condition among the engine's, and its fields.
    pub(crate) branches: Vec<(usize, usize, Vec<FieldId>)>,
}

impl Grouping {
    /// All lists of fields that make a group.
    fn lists(&self) -> impl Iterator<Item = &[FieldId]> {
        let plain = self.branches.is_empty().then_some(&self.fields[..]);
        plain.into_iter().chain(self.branches.iter().map(|(_, _, fields)| &fields[..]))
    }
}

/// Calls `each` for every group of an event, with the branches that lead to it.
fn for_each_by_branch(
    event: &Event<'_>,
    branches: &[(usize, usize, Vec<FieldId>)],
    met: &[bool],
    fingerprinter: &Fingerprinter,
    each: &mut dyn FnMut(Fingerprint, BranchSet),
) {
    let mut known: SmallVec<[(Fingerprint, u64); 4]> = SmallVec::new();
    for (part, condition, fields) in branches {
        if met[*condition] {
            for_each_group(event, fields, fingerprinter, &mut |fingerprint, _| match known
                .iter_mut()
                .find(|(known, _)| *known == fingerprint)
            {
                Some((_, through)) => *through |= 1 << part,
                None => known.push((fingerprint, 1 << part)),
            });
        }
    }
    known.into_iter().for_each(|(fingerprint, through)| each(fingerprint, BranchSet(through)));
}

/// Resolves a group's names from its fingerprint. Needed only when a finding may open, or when a group is new and a
/// rule is deferred.
pub(crate) enum GroupNames<'a> {
    /// From the events of the chunk, by reading the event again.
    Events { events: &'a [Cow<'a, [u8]>], reader: &'a mut EventReader, fingerprinter: Fingerprinter },
    /// From the finding openings of this batch.
    Openings { openings: &'a [FinalOpening], spec: &'a StreamSpec },
}

impl GroupNames<'_> {
    pub(super) fn of(&mut self, keyed: &KeyedEvent, grouping: &Grouping) -> GroupName {
        let index = keyed.event_index as usize;
        let mut names = GroupName::default();
        match self {
            Self::Openings { openings, spec } => {
                names = openings.get(index).map(|opening| spec.names_of(opening)).unwrap_or_default();
            }
            Self::Events { events, reader, fingerprinter } => {
                let record = events.get(index).and_then(|bytes| std::str::from_utf8(bytes).ok());
                let Some(record) = record else { return names };
                let is_event = reader.read(record).is_ok();
                let event = if is_event {
                    reader.read(record)
                } else {
                    Ok(reader.read_with_problem(record, Problem::Rejected(Reason::BadJson)))
                };
                let Ok(event) = event else { return names };
                for fields in grouping.lists() {
                    for_each_group(&event, fields, fingerprinter, &mut |fingerprint, combination| {
                        if fingerprint == keyed.fingerprint && names.key().is_empty() {
                            let key = combination.iter().map(|&scalar| event.text(scalar).to_owned());
                            let written = fields.iter().zip(combination);
                            let written =
                                written.map(|(&field, &scalar)| event.spelling(field, scalar).to_owned());
                            names = GroupName::new(key.collect(), written.collect());
                        }
                    });
                }
            }
        }
        names
    }
}

/// Fast path: the group of an event that has one scalar in each field.
#[inline]
fn only_group(event: &Event<'_>, fields: &[FieldId], fingerprinter: &Fingerprinter) -> Option<Fingerprint> {
    let only = |field: FieldId| event.single_fingerprint(field, fingerprinter);
    match *fields {
        [field] => only(field),
        [first, second] => Some(fingerprinter.combine(&[only(first)?, only(second)?])),
        _ => {
            let fingerprints = fields.iter().map(|&field| only(field));
            Some(fingerprinter.combine(&fingerprints.collect::<Option<SmallVec<[Fingerprint; 4]>>>()?))
        }
    }
}

/// Calls `each` for every group of an event: the Cartesian product of its fields' scalars; none if a field is empty.
/// A group can occur more than once if a list contains duplicates.
fn for_each_group(
    event: &Event<'_>,
    fields: &[FieldId],
    fingerprinter: &Fingerprinter,
    each: &mut impl FnMut(Fingerprint, &[Scalar]),
) {
    let mut chosen: SmallVec<[Scalar; 4]> = SmallVec::new();
    descend(event, fields, &mut chosen, &mut |combination| {
        let fingerprints: SmallVec<[Fingerprint; 4]> =
            combination.iter().map(|&scalar| event.fingerprint(scalar, fingerprinter)).collect();
        each(fingerprinter.combine(&fingerprints), combination);
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
