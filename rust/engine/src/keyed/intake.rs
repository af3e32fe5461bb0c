//! Intake: which events a keyed stream has, in which groups, with which values.
//!
//! Taking in and counting are apart, so that counting knows which groups are next and can have their memory on its
//! way, and so that lanes can take in at once what shards then count.

use crate::field::{Event, EventReader, FieldId, Scalar};
use crate::key::{Fingerprint, Keyring};
use crate::plan::{Share, SievePlan};
use crate::snapshot::Resume;
use crate::time::Micros;
use crate::watermark::StreamClock;
use smallvec::SmallVec;

/// An event to be counted in one group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    pub(super) print: Fingerprint,
    pub(super) time: Micros,
    /// The largest event time before it in the piece.
    pub(super) newest: Micros,
    /// The event's place in the piece.
    event: u32,
    /// Where its values' ranges begin in [`Values::ranges`].
    ranges: u32,
    /// The group's slot, or [`NO_SLOT`] while it is not known.
    pub(super) slot: u32,
}

impl Work {
    /// The watermark once the event has been observed.
    pub(super) fn watermark_with(&self, clock: StreamClock) -> Micros {
        clock.watermark_after(self.newest.max(self.time))
    }
}

pub(super) const NO_SLOT: u32 = u32::MAX;

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
    pub(super) fn of(&self, work: &Work, field: usize) -> &[Fingerprint] {
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

    /// Keeps what an event has of what is counted; returns where. `met` says of each condition whether it meets it.
    #[inline]
    fn take(&mut self, event: &Event<'_>, met: &[bool], counted: &[Measure], keyring: &Keyring) -> u32 {
        let ranges = self.ranges.len() as u32;
        for measure in counted {
            let first = self.prints.len();
            match measure {
                &Measure::Values(field) => match event.scalars(field) {
                    &[scalar] => self.prints.push(event.print(field, scalar, keyring)),
                    scalars => {
                        self.prints.extend(scalars.iter().map(|&scalar| event.print(field, scalar, keyring)));
                        self.drop_repeats(first);
                    }
                },
                Measure::Met(conditions) => {
                    // Known by their places in the rule, which are the same in every engine.
                    let places = conditions.iter().enumerate().filter(|&(_, &condition)| met[condition]);
                    self.prints.extend(places.map(|(place, _)| keyring.print(&place.to_le_bytes())));
                }
            }
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

/// What of an event is counted, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Measure {
    /// The values of a field.
    Values(FieldId),
    /// Which of these conditions it meets, by their places among the engine's.
    Met(Vec<usize>),
}

/// What taking in an event depends on beside the event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taking<'a> {
    pub(crate) keyring: &'a Keyring,
    /// Of each of the engine's conditions: whether the event meets it.
    pub(crate) met: &'a [bool],
    /// The event's position in its stream.
    pub(crate) position: u64,
    /// After a restart: what has been counted before.
    pub(crate) resume: Option<&'a Resume>,
    /// Other groups than this share's are counted elsewhere.
    pub(crate) share: Option<Share>,
}

/// What makes a keyed stream: which events, grouped by what; and what its windows count.
#[derive(Debug, Clone)]
pub(crate) struct StreamSpec {
    /// The condition's place among the engine's.
    pub(crate) condition: usize,
    pub(crate) group_by: Vec<FieldId>,
    /// Which of these events count, with the place of the field it asks for among what is counted.
    pub(crate) sieve: Option<(SievePlan, Option<usize>)>,
    /// What some window counts the distinct ones of.
    pub(crate) counted: Vec<Measure>,
}

impl StreamSpec {
    /// Takes in an event that meets the condition, the `at`th of the piece: into the `stream`th intake of the shard
    /// that has its group. `times` are its own and the largest before it.
    #[inline]
    pub(crate) fn take_in(
        &self,
        event: &Event<'_>,
        at: usize,
        (time, newest): (Micros, Micros),
        taking: &Taking<'_>,
        stream: usize,
        shards: &mut [Vec<Intake>],
    ) {
        let Taking { keyring, met, position, resume, share } = *taking;
        self.for_each_print(event, keyring, &mut |print| {
            if share.is_some_and(|share| !share.has(print)) {
                return;
            }
            let shard = print as u32 as usize % shards.len();
            if resume.is_some_and(|resume| position < resume.from(shard, stream)) {
                return;
            }
            let intake = &mut shards[shard][stream];
            let ranges = intake.values.take(event, met, &self.counted, keyring);
            intake.work.push(Work { print, time, newest, event: at as u32, ranges, slot: NO_SLOT });
        });
    }

    /// Names the groups of an event, each once.
    #[inline]
    pub(crate) fn for_each_print(
        &self,
        event: &Event<'_>,
        keyring: &Keyring,
        each: &mut impl FnMut(Fingerprint),
    ) {
        if let Some(print) = only_group(event, &self.group_by, keyring) {
            return each(print);
        }
        // A list can name a group twice.
        let mut known: SmallVec<[Fingerprint; 4]> = SmallVec::new();
        for_each_group(event, &self.group_by, keyring, &mut |print, _| {
            if !known.contains(&print) {
                known.push(print);
                each(print);
            }
        });
    }
}

/// Gives names back to fingerprints, by reading the event again: only a new finding needs them.
pub(crate) struct Names<'a> {
    pub(crate) events: &'a [&'a [u8]],
    pub(crate) reader: &'a mut EventReader,
    pub(crate) keyring: Keyring,
}

impl Names<'_> {
    pub(super) fn of(&mut self, work: &Work, fields: &[FieldId]) -> Vec<String> {
        let mut names = Vec::new();
        let record = self.events.get(work.event as usize).and_then(|bytes| std::str::from_utf8(bytes).ok());
        let Some(Ok(event)) = record.map(|record| self.reader.read(record)) else { return names };
        for_each_group(&event, fields, &self.keyring, &mut |print, combination| {
            if print == work.print && names.is_empty() {
                names.extend(combination.iter().map(|&scalar| event.text(scalar).to_owned()));
            }
        });
        names
    }
}

/// The group of an event that has one scalar in each field: almost always.
#[inline]
fn only_group(event: &Event<'_>, fields: &[FieldId], keyring: &Keyring) -> Option<Fingerprint> {
    let only = |field: FieldId| match event.scalars(field) {
        &[scalar] => Some(event.print(field, scalar, keyring)),
        _ => None,
    };
    if let [field] = *fields {
        return only(field);
    }
    let prints: SmallVec<[Fingerprint; 4]> = fields.iter().map_while(|&field| only(field)).collect();
    (prints.len() == fields.len()).then(|| keyring.combine(&prints))
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
        let prints: SmallVec<[Fingerprint; 4]> = combination
            .iter()
            .zip(fields)
            .map(|(&scalar, &field)| event.print(field, scalar, keyring))
            .collect();
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
