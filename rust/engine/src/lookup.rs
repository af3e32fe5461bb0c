//! Look-up tables: what is known about people beside the events, such as who shares a household with whom.
//!
//! A table maps a key of one or several values to a text, or is the bare set of its keys. Keys are kept as 64-bit keyed
//! fingerprints and each distinct value once: 20 bytes an entry on average at ten million, whatever the keys' length.

use crate::key::{Fingerprint, Keyring};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use thiserror::Error;

/// Why bytes are no table.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TableError {
    /// Not to be read as CSV.
    #[error("line {line}: {problem}")]
    Csv {
        /// Counted from 1.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// A column that the header does not name.
    #[error("line 1: no column '{wanted}'; there are {there}")]
    Column {
        /// The name.
        wanted: String,
        /// Those there are.
        there: String,
    },
    /// Fewer columns than asked for.
    #[error("line 1: {wanted} columns make the key, and there are {there}")]
    Narrow {
        /// Columns of the key.
        wanted: usize,
        /// Columns there are.
        there: usize,
    },
}

/// What a table's derived fields ask of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Columns {
    /// How many columns, from the first, make the key.
    pub keys: usize,
    /// The column with the value; without it, all that is asked is whether the key is there.
    pub value: Option<String>,
}

/// Keys and what stands beside them.
#[derive(Debug)]
pub struct Lookup {
    keyring: Keyring,
    /// Key → where its value is in `ends`.
    entries: FxHashMap<Fingerprint, u32>,
    texts: String,
    /// Each distinct value's end in `texts`; it starts where the one before ends.
    ends: Vec<u32>,
}

impl Lookup {
    /// Reads CSV with a header line. Of a key that comes twice, the last line counts.
    ///
    /// # Errors
    /// Bytes that are not CSV, and columns that are not there.
    pub fn from_csv(bytes: &[u8], columns: &Columns, key: [u8; 16]) -> Result<Self, TableError> {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
        let header = reader.headers().map_err(|error| csv_fault(&error))?.clone();
        if header.len() < columns.keys {
            return Err(TableError::Narrow { wanted: columns.keys, there: header.len() });
        }
        let column_of = |wanted: &String| {
            header.iter().position(|name| name == wanted).ok_or_else(|| TableError::Column {
                wanted: wanted.clone(),
                there: header.iter().collect::<Vec<_>>().join(", "),
            })
        };
        let value = columns.value.as_ref().map(column_of).transpose()?;
        let mut table = Self {
            keyring: Keyring::new(key),
            entries: FxHashMap::default(),
            texts: String::new(),
            ends: Vec::new(),
        };
        let mut known: FxHashMap<Box<str>, u32> = FxHashMap::default();
        let mut row = csv::StringRecord::new();
        while reader.read_record(&mut row).map_err(|error| csv_fault(&error))? {
            let key: SmallVec<[&str; 4]> = row.iter().take(columns.keys).collect();
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
            let print = table.print(key.iter().map(|part| part.as_bytes()));
            table.entries.insert(print, place);
        }
        table.entries.shrink_to_fit();
        Ok(table)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What stands beside a key; `true` where the table is a set.
    pub(crate) fn get<'k>(&self, key: impl Iterator<Item = &'k [u8]>) -> Option<&str> {
        let place = *self.entries.get(&self.print(key))? as usize;
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.texts[start as usize..self.ends[place] as usize])
    }

    fn print<'k>(&self, key: impl Iterator<Item = &'k [u8]>) -> Fingerprint {
        let parts: SmallVec<[Fingerprint; 4]> = key.map(|part| self.keyring.print(part)).collect();
        self.keyring.combine(&parts)
    }
}

/// The value of every key of a set.
const IN_THE_SET: &str = "true";

fn csv_fault(error: &csv::Error) -> TableError {
    let line = error.position().map_or(1, csv::Position::line);
    let problem = match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "not UTF-8".to_owned(),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} columns where the header has {expected_len}")
        }
        _ => error.to_string(),
    };
    TableError::Csv { line, problem }
}

type ByName = BTreeMap<(String, Columns), Arc<Lookup>>;

/// The tables in force, by name and columns: shared by engines, exchanged while they run.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    all: Arc<RwLock<ByName>>,
}

impl Tables {
    /// Puts a table in force from the next batch on, in place of the one of that name and those columns.
    pub fn put(&self, name: &str, columns: Columns, table: Arc<Lookup>) {
        // A map is whole whatever became of whoever held the lock.
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        all.insert((name.to_owned(), columns), table);
    }

    /// Puts all of another's tables in force at once, from the next batch on.
    pub fn update_from(&self, others: &Self) {
        let others = others.all.read().unwrap_or_else(PoisonError::into_inner).clone();
        self.all.write().unwrap_or_else(PoisonError::into_inner).extend(others);
    }

    /// Puts another's tables in force, and none beside them.
    pub fn become_like(&self, others: &Self) {
        let others = others.all.read().unwrap_or_else(PoisonError::into_inner).clone();
        *self.all.write().unwrap_or_else(PoisonError::into_inner) = others;
    }

    /// The table in force, if there is one.
    pub(crate) fn get(&self, name: &str, columns: &Columns) -> Option<Arc<Lookup>> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&(name.to_owned(), columns.clone())).map(Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, keys: usize, value: Option<&str>) -> Result<Lookup, TableError> {
        Lookup::from_csv(text.as_bytes(), &Columns { keys, value: value.map(str::to_owned) }, [7; 16])
    }

    #[test]
    fn a_key_has_its_last_value_and_no_other_key_has_it() {
        let table = read("person,household\nA,1\nB, 2 \n\"A\",3\nC,\n", 1, Some("household")).unwrap();
        let get = |key: &str| table.get([key.as_bytes()].into_iter());
        assert_eq!((get("A"), get("B"), get("C"), get("D")), (Some("3"), Some("2"), None, None));
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn keys_of_several_columns_are_told_apart() {
        let table = read("actor,subject\na,bc\n", 2, None).unwrap();
        assert_eq!(table.get([&b"a"[..], b"bc"].into_iter()), Some("true"));
        assert_eq!(table.get([&b"ab"[..], b"c"].into_iter()), None);
    }

    #[test]
    fn what_is_no_table_is_told_with_its_line() {
        let faults = [
            (read("a,b\n1,2\n3\n", 1, None).err(), "line 3: 1 columns where the header has 2"),
            (read("a,b\n1,2\n", 1, Some("c")).err(), "line 1: no column 'c'; there are a, b"),
            (read("a\n1\n", 2, None).err(), "line 1: 2 columns make the key, and there are 1"),
        ];
        for (fault, told) in faults {
            assert_eq!(fault.map(|fault| fault.to_string()).as_deref(), Some(told));
        }
    }
}
