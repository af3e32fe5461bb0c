//! Look-up tables: facts that are not in the events, such as which persons share a household.
//!
//! A table maps keys of one or several values to a text, or is a set of keys. Keys are stored as 64-bit keyed
//! fingerprints and each distinct value once.
//!
//! Cost: 20 bytes per entry at ten million entries, independent of the length of the keys; one hash look-up per event
//! and derived field.

use crate::event::identity::normal_form;
use crate::foundation::fingerprint::{Fingerprint, Fingerprinter};
use crate::plan::IdentityForm;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use thiserror::Error;

/// Why a table cannot be loaded.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TableError {
    /// Malformed CSV.
    #[error("line {line}: {problem}")]
    Csv {
        /// Line number, from 1.
        line: u64,
        /// The fault.
        problem: String,
    },
    /// The header does not fit the columns that are used.
    #[error("line 1: {problem}")]
    Header {
        /// The fault.
        problem: String,
    },
}

impl TableError {
    /// Line of the fault, from 1.
    pub fn line(&self) -> u64 {
        match self {
            Self::Csv { line, .. } => *line,
            Self::Header { .. } => 1,
        }
    }

    /// The fault, without its line.
    pub fn problem(&self) -> &str {
        let (Self::Csv { problem, .. } | Self::Header { problem }) = self;
        problem
    }
}

/// Columns of a table that a derived field uses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Columns {
    /// Number of leading columns that make the key.
    pub keys: usize,
    /// Column of the value; `None` for a set.
    pub value: Option<String>,
    /// Normal form of each key column that is an identity.
    pub forms: Vec<Option<IdentityForm>>,
}

/// A loaded table.
#[derive(Debug)]
pub struct Lookup {
    fingerprinter: Fingerprinter,
    /// Key → index of its value in `ends`.
    entries: FxHashMap<Fingerprint, u32>,
    texts: String,
    /// End of each distinct value in `texts`; it starts at the end of the previous one.
    ends: Vec<u32>,
}

impl Lookup {
    /// Reads CSV with a header line. If a key occurs twice, the last line wins.
    ///
    /// # Errors
    /// The CSV is malformed, or a column is missing.
    pub fn from_csv(bytes: &[u8], columns: &Columns, key: [u8; 16]) -> Result<Self, TableError> {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
        let header = reader.headers().map_err(|error| csv_fault(&error))?.clone();
        if header.len() < columns.keys {
            let problem = format!("the key has {} columns, the header has {}", columns.keys, header.len());
            return Err(TableError::Header { problem });
        }
        let column_of = |wanted: &String| {
            header.iter().position(|name| name == wanted).ok_or_else(|| {
                let known = header.iter().collect::<Vec<_>>().join(", ");
                TableError::Header { problem: format!("no column '{wanted}'; there are {known}") }
            })
        };
        let value = columns.value.as_ref().map(column_of).transpose()?;
        let mut table = Self {
            fingerprinter: Fingerprinter::new(key),
            entries: FxHashMap::default(),
            texts: String::new(),
            ends: Vec::new(),
        };
        let mut known: FxHashMap<Box<str>, u32> = FxHashMap::default();
        let mut row = csv::StringRecord::new();
        while reader.read_record(&mut row).map_err(|error| csv_fault(&error))? {
            let forms = columns.forms.iter().copied().chain(std::iter::repeat(None));
            let key = row.iter().take(columns.keys).zip(forms);
            let key: SmallVec<[Cow<'_, str>; 4]> = key
                .map(|(part, form)| {
                    form.and_then(|form| normal_form(form, part)).map_or(Cow::Borrowed(part), Cow::Owned)
                })
                .collect();
            let text = value.map_or(IN_THE_SET, |at| row.get(at).unwrap_or_default());
            if text.is_empty() {
                continue;
            }
            let place = known.get(text).copied().unwrap_or_else(|| {
                let place = table.ends.len() as u32;
                table.texts.push_str(text);
                table.ends.push(table.texts.len() as u32);
                known.insert(text.into(), place);
                place
            });
            let fingerprint = table.fingerprint(key.iter().map(|part| part.as_bytes()));
            table.entries.insert(fingerprint, place);
        }
        table.entries.shrink_to_fit();
        Ok(table)
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Value of a key; `true` for a key of a set.
    pub(crate) fn get<'k>(&self, key: impl Iterator<Item = &'k [u8]>) -> Option<&str> {
        let place = *self.entries.get(&self.fingerprint(key))? as usize;
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.texts[start as usize..self.ends[place] as usize])
    }

    fn fingerprint<'k>(&self, key: impl Iterator<Item = &'k [u8]>) -> Fingerprint {
        let parts: SmallVec<[Fingerprint; 4]> =
            key.map(|part| self.fingerprinter.fingerprint(part)).collect();
        self.fingerprinter.combine(&parts)
    }
}

/// Value of every key of a set.
const IN_THE_SET: &str = "true";

fn csv_fault(error: &csv::Error) -> TableError {
    let line = error.position().map_or(1, csv::Position::line);
    let problem = match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "not UTF-8".to_owned(),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} columns, the header has {expected_len}")
        }
        _ => error.to_string(),
    };
    TableError::Csv { line, problem }
}

type ByName = BTreeMap<(String, Columns), Arc<Lookup>>;

/// Current tables by name and columns. Shared by engines and replaced while they run.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    all: Arc<RwLock<ByName>>,
}

impl Tables {
    /// Replaces the table of this name and these columns from the next batch on.
    pub fn put(&self, name: &str, columns: Columns, table: Arc<Lookup>) {
        // A panic while the lock was held cannot leave the map inconsistent.
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        all.insert((name.to_owned(), columns), table);
    }

    /// Replaces or adds all tables of another set, at once, from the next batch on.
    pub fn update_from(&self, others: &Self) {
        let others = others.all.read().unwrap_or_else(PoisonError::into_inner).clone();
        self.all.write().unwrap_or_else(PoisonError::into_inner).extend(others);
    }

    /// Replaces the whole set by another.
    pub fn become_like(&self, others: &Self) {
        let others = others.all.read().unwrap_or_else(PoisonError::into_inner).clone();
        *self.all.write().unwrap_or_else(PoisonError::into_inner) = others;
    }

    /// The current table, if it is loaded.
    pub(crate) fn get(&self, name: &str, columns: &Columns) -> Option<Arc<Lookup>> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&(name.to_owned(), columns.clone())).map(Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, keys: usize, value: Option<&str>) -> Result<Lookup, TableError> {
        Lookup::from_csv(
            text.as_bytes(),
            &Columns { keys, value: value.map(str::to_owned), forms: Vec::new() },
            [7; 16],
        )
    }

    #[test]
    fn last_value_of_a_key_wins() {
        let table = read("person,household\nA,1\nB, 2 \n\"A\",3\nC,\n", 1, Some("household")).unwrap();
        let get = |key: &str| table.get([key.as_bytes()].into_iter());
        assert_eq!((get("A"), get("B"), get("C"), get("D")), (Some("3"), Some("2"), None, None));
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn keys_of_several_columns_do_not_collide() {
        let table = read("actor,subject\na,bc\n", 2, None).unwrap();
        assert_eq!(table.get([&b"a"[..], b"bc"].into_iter()), Some("true"));
        assert_eq!(table.get([&b"ab"[..], b"c"].into_iter()), None);
    }

    #[test]
    fn keys_are_in_their_normal_form() {
        let forms = vec![Some(IdentityForm::default()), None];
        let columns = Columns { keys: 2, value: None, forms };
        let table = Lookup::from_csv("a,b\np1\u{200b},x\n".as_bytes(), &columns, [7; 16]).unwrap();
        assert_eq!(table.get([&b"P1"[..], b"x"].into_iter()), Some("true"));
        assert_eq!(table.get([&b"P1"[..], b"X"].into_iter()), None);
    }

    #[test]
    fn malformed_table_is_reported_with_its_line() {
        let faults = [
            (read("a,b\n1,2\n3\n", 1, None).err(), "line 3: 1 columns, the header has 2"),
            (read("a,b\n1,2\n", 1, Some("c")).err(), "line 1: no column 'c'; there are a, b"),
            (read("a\n1\n", 2, None).err(), "line 1: the key has 2 columns, the header has 1"),
        ];
        for (fault, reported) in faults {
            assert_eq!(fault.map(|fault| fault.to_string()).as_deref(), Some(reported));
        }
    }
}
