//! The history: what is kept of every event, by column, for those who ask afterwards who looked up whom.
//!
//! A lane copies it while the event is at hand; whoever calls the engine writes it down. One row is one event and one of
//! its subjects, as questions are asked of both; the record itself stands in an event's first row only.

use crate::field::{Event, FieldId, FieldTable};
use crate::plan::PlanError;
use crate::time::Micros;

/// The fields that have a column each.
pub const FIELDS: [&str; 8] =
    ["actor", "subject", "resource", "action", "peer_group", "purpose", "client_ip", "app"];

/// Where the subject is among the [`FIELDS`].
const SUBJECT: usize = 1;

/// Texts one after the other, some of them absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts {
    bytes: Vec<u8>,
    /// Of each text its length; [`ABSENT`] where there is none.
    lengths: Vec<u32>,
}

const ABSENT: u32 = u32::MAX;

impl Texts {
    fn push(&mut self, text: Option<&[u8]>) {
        // Records are far shorter than 4 GiB, and so is what is in them.
        self.lengths.push(text.map_or(ABSENT, |text| text.len() as u32));
        self.bytes.extend_from_slice(text.unwrap_or_default());
    }

    fn append(&mut self, other: &mut Self) {
        self.bytes.append(&mut other.bytes);
        self.lengths.append(&mut other.lengths);
    }

    /// The texts one by one; `None` where there is none.
    pub fn each(&self) -> impl Iterator<Item = Option<&[u8]>> {
        let mut rest = &self.bytes[..];
        self.lengths.iter().map(move |&length| {
            (length != ABSENT).then(|| {
                let (text, after) = rest.split_at(length as usize);
                rest = after;
                text
            })
        })
    }
}

/// Rows of the history, of one stream, in the order of their events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recording {
    /// When each event was.
    pub times: Vec<Micros>,
    /// Where each event is in its stream: an offset, or a line's number.
    pub positions: Vec<u64>,
    /// The columns of the [`FIELDS`]. Of a list, other than of subjects, the first element is kept.
    pub fields: [Texts; FIELDS.len()],
    /// The records as they came, each in the first row of its event.
    pub records: Texts,
}

impl Recording {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    pub(crate) fn append(&mut self, other: &mut Self) {
        self.times.append(&mut other.times);
        self.positions.append(&mut other.positions);
        for (column, more) in self.fields.iter_mut().zip(&mut other.fields) {
            column.append(more);
        }
        self.records.append(&mut other.records);
    }
}

/// A lane's pen.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    fields: [FieldId; FIELDS.len()],
    pub(crate) rows: Recording,
}

impl Recorder {
    /// Names the fields it keeps.
    ///
    /// # Errors
    /// Fields that cannot be read.
    pub(crate) fn new(table: &mut FieldTable) -> Result<Self, PlanError> {
        let mut fields = [0; FIELDS.len()];
        for (id, name) in fields.iter_mut().zip(FIELDS) {
            *id = table.id(name)?;
        }
        Ok(Self { fields, rows: Recording::default() })
    }

    /// Writes an event down.
    pub(crate) fn take(&mut self, event: &Event<'_>, time: Micros, position: u64, record: &[u8]) {
        let subjects = event.scalars(self.fields[SUBJECT]);
        for row in 0..subjects.len().max(1) {
            self.rows.times.push(time);
            self.rows.positions.push(position);
            for (at, (column, &field)) in self.rows.fields.iter_mut().zip(&self.fields).enumerate() {
                let scalar = if at == SUBJECT { subjects.get(row) } else { event.scalars(field).first() };
                column.push(scalar.map(|&scalar| event.bytes(scalar)));
            }
            self.rows.records.push((row == 0).then_some(record));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_as_they_were_written() {
        let mut texts = Texts::default();
        for text in [Some(&b"one"[..]), None, Some(b""), Some(b"three")] {
            texts.push(text);
        }
        let read: Vec<_> = texts.each().collect();
        assert_eq!(read, [Some(&b"one"[..]), None, Some(b""), Some(b"three")]);
    }
}
