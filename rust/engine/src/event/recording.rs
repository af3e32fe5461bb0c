//! History recording: columns copied from every event, so that past access can be queried.
//!
//! A worker copies the columns while it reads the event; the caller of the engine writes them to disk. There is one
//! row per event and subject; the raw record is only in an event's first row.

use crate::event::field::{Event, FieldId, FieldTable};
use crate::foundation::time::Micros;
use crate::plan::PlanError;

/// Fields with a column of their own.
pub const FIELDS: [&str; 8] =
    ["actor", "subject", "resource", "action", "peer_group", "purpose", "client_ip", "app"];

/// Fields of [`FIELDS`] whose spelling is recorded besides the normal form, if it differs.
pub const SPELLED: [&str; 3] = ["actor", "subject", "action"];

/// Indices of [`SPELLED`] in [`FIELDS`].
const SPELLED_AT: [usize; SPELLED.len()] = [0, SUBJECT, 3];

/// Index of the subject in [`FIELDS`].
const SUBJECT: usize = 1;

/// A column of optional texts, concatenated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts {
    bytes: Vec<u8>,
    /// Length of each text; [`ABSENT`] if absent.
    lengths: Vec<u32>,
}

const ABSENT: u32 = u32::MAX;

impl Texts {
    fn push(&mut self, text: Option<&[u8]>) {
        // Records, and therefore their fields, are far shorter than 4 GiB.
        self.lengths.push(text.map_or(ABSENT, |text| text.len() as u32));
        self.bytes.extend_from_slice(text.unwrap_or_default());
    }

    fn append(&mut self, other: &mut Self) {
        self.bytes.append(&mut other.bytes);
        self.lengths.append(&mut other.lengths);
    }

    /// Iterates over the texts; `None` if absent.
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

/// Rows of the history of one stream, in stream order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recording {
    /// Event times.
    pub times: Vec<Micros>,
    /// Positions in the stream: offsets or line numbers.
    pub positions: Vec<u64>,
    /// Columns of [`FIELDS`], in normal form. For lists other than subjects, the first element.
    pub fields: [Texts; FIELDS.len()],
    /// Columns of [`SPELLED`]: the value as written where it differs from its normal form.
    pub spellings: [Texts; SPELLED.len()],
    /// Raw records, each in the first row of its event.
    pub records: Texts,
}

impl Recording {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    pub(crate) fn append(&mut self, other: &mut Self) {
        self.times.append(&mut other.times);
        self.positions.append(&mut other.positions);
        let columns = self.fields.iter_mut().chain(&mut self.spellings);
        for (column, more) in columns.zip(other.fields.iter_mut().chain(&mut other.spellings)) {
            column.append(more);
        }
        self.records.append(&mut other.records);
    }
}

/// Records the events of one worker.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    fields: [FieldId; FIELDS.len()],
    pub(crate) rows: Recording,
}

impl Recorder {
    /// Registers the recorded fields.
    ///
    /// # Errors
    /// A field cannot be read.
    pub(crate) fn new(table: &mut FieldTable) -> Result<Self, PlanError> {
        let mut fields = [0; FIELDS.len()];
        for (id, name) in fields.iter_mut().zip(FIELDS) {
            *id = table.id(name)?;
        }
        Ok(Self { fields, rows: Recording::default() })
    }

    /// Records an event.
    pub(crate) fn take(&mut self, event: &Event<'_>, time: Micros, position: u64, record: &[u8]) {
        let rows = event.written(self.fields[SUBJECT]).len().max(1);
        for row in 0..rows {
            self.rows.times.push(time);
            self.rows.positions.push(position);
            let element = |at: usize| if at == SUBJECT { row } else { 0 };
            for (at, (column, &field)) in self.rows.fields.iter_mut().zip(&self.fields).enumerate() {
                let normal = event.scalars(field).get(element(at));
                column.push(normal.map(|&scalar| event.bytes(scalar)));
            }
            for (column, at) in self.rows.spellings.iter_mut().zip(SPELLED_AT) {
                let field = self.fields[at];
                let written = event.respelled(field).get(element(at)).map(|&scalar| event.bytes(scalar));
                let normal = event.scalars(field).get(element(at)).map(|&scalar| event.bytes(scalar));
                column.push(written.filter(|_| written != normal));
            }
            self.rows.records.push((row == 0).then_some(record));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_round_trip() {
        let mut texts = Texts::default();
        for text in [Some(&b"one"[..]), None, Some(b""), Some(b"three")] {
            texts.push(text);
        }
        let read: Vec<_> = texts.each().collect();
        assert_eq!(read, [Some(&b"one"[..]), None, Some(b""), Some(b"three")]);
    }
}
