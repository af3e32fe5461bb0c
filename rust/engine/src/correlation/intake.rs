//! Intake: which of a block's events a rule counts, in which groups, with which values.
//!
//! Events are taken in a block at a time and counted after it, so that the memory of all the block's groups
//! is on its way before the first of them is needed: look-ups that do not depend on each other overlap.

use super::Correlation;
use crate::field::{Event, EventReader, FieldId, Scalar};
use crate::key::{Fingerprint, Keyring};
use crate::time::Micros;
use smallvec::SmallVec;
use std::hint::black_box;
use std::ops::Range;

/// An event to be counted in one group.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) print: Fingerprint,
    pub(super) time: Micros,
    /// The watermark in force when the event arrived.
    pub(super) watermark: Micros,
    /// The event's place in the block.
    event: usize,
    /// Its values' places in the block's list.
    values: Range<usize>,
    slot: u32,
}

/// What a rule has taken in of the present block.
#[derive(Debug, Default)]
pub(super) struct Intake {
    work: Vec<Work>,
    values: Vec<u64>,
}

/// Gives names back to fingerprints, by reading the event again: only a new finding needs them.
pub(crate) struct Names<'a> {
    pub(crate) records: &'a [&'a [u8]],
    pub(crate) reader: &'a mut EventReader,
    pub(crate) keyring: Keyring,
}

impl Names<'_> {
    pub(super) fn of(&mut self, work: &Work, fields: &[FieldId]) -> Vec<String> {
        let mut names = Vec::new();
        let record = self.records.get(work.event).and_then(|bytes| std::str::from_utf8(bytes).ok());
        let Some(Ok(event)) = record.map(|record| self.reader.read(record)) else { return names };
        for_each_group(&event, fields, self.keyring, &mut |print, combination| {
            if print == work.print && names.is_empty() {
                names.extend(combination.iter().map(|&scalar| event.text(scalar).to_owned()));
            }
        });
        names
    }
}

impl Correlation {
    /// Takes in an event of the block, if it matches.
    pub(crate) fn take_in(
        &mut self,
        event: &Event<'_>,
        at: usize,
        time: Micros,
        watermark: Micros,
        keyring: Keyring,
    ) {
        if !self.when.matches(event) {
            return;
        }
        self.matched += 1;
        let Intake { work, values } = &mut self.intake;
        let first = values.len();
        if let Some(field) = self.distinct {
            values.extend(event.scalars(field).iter().map(|&s| event.print(field, s, keyring) as u64));
            if values.len() - first > 1 {
                values[first..].sort_unstable();
                let mut kept = first + 1;
                for at in first + 1..values.len() {
                    if values[at] != values[kept - 1] {
                        values[kept] = values[at];
                        kept += 1;
                    }
                }
                values.truncate(kept);
            }
        }
        let values = first..values.len();
        let begun = work.len();
        for_each_group(event, &self.group_by, keyring, &mut |print, _| {
            if !work[begun..].iter().any(|known| known.print == print) {
                let values = values.clone();
                work.push(Work { print, time, watermark, event: at, values, slot: u32::MAX });
            }
        });
    }

    /// Counts what was taken in of the block.
    pub(crate) fn count_block(&mut self, names: &mut Names<'_>) {
        let Intake { mut work, mut values } = std::mem::take(&mut self.intake);
        for one in &mut work {
            one.slot = self.slot(one, names);
        }
        let mut touched = 0;
        for one in &work {
            touched ^= self.touch(one.slot, &values[one.values.clone()]);
        }
        black_box(touched);
        for one in &work {
            self.count(one.slot, one, &values[one.values.clone()], names);
        }
        work.clear();
        values.clear();
        self.intake = Intake { work, values };
    }

    fn slot(&mut self, work: &Work, names: &mut Names<'_>) -> u32 {
        if let Some(slot) = self.groups.find(work.print) {
            return slot;
        }
        let slot = self.groups.add(work.print);
        if self.judging.is_some() {
            let names = names.of(work, &self.group_by);
            self.start_judging(slot, names);
        }
        slot
    }

    /// Reads what counting will read, so that the reads of a block overlap.
    fn touch(&self, slot: u32, values: &[u64]) -> u64 {
        let head = self.groups.get(slot).map_or(0, |group| u64::from(group.log.peek()));
        values.iter().fold(head, |all, &value| all ^ self.pairs.peek(value, slot))
    }
}

/// Every group an event is in: one for each way to take one scalar of each field, none when a field has none.
/// A group can come more than once where a list repeats a value.
fn for_each_group(
    event: &Event<'_>,
    fields: &[FieldId],
    keyring: Keyring,
    each: &mut impl FnMut(Fingerprint, &[Scalar]),
) {
    if let [field] = *fields {
        for scalar in event.scalars(field) {
            each(event.print(field, *scalar, keyring), std::slice::from_ref(scalar));
        }
        return;
    }
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
