//! Recorded events as Parquet.
//!
//! The format is open, so the history can be queried with any tool for as long as it is kept. Columns with few
//! distinct values are dictionaries; times and positions are delta-encoded. A Bloom filter per row group tells which
//! subjects it does not contain, so a query for one subject reads almost nothing of a history of millions of rows.
#![deny(unsafe_code)]

mod merge;
mod table;

pub use merge::merge;

use crate::table::{Column, GROUP_ROWS, Group, begin};
use custodes_engine::{Micros, Recording, Texts};
use parquet::data_type::ByteArray;
use parquet::errors::Result;

/// Recorded events of one stream.
#[derive(Debug, Clone, Copy)]
pub struct Part<'r> {
    /// Name of the stream, the same in every process.
    pub source: &'r str,
    /// Events before this position were written before.
    pub from: u64,
    /// The events.
    pub recording: &'r Recording,
}

/// Index of the actor among the history's fields.
const ACTOR: usize = 0;

/// Encodes the parts as one Parquet file, sorted by actor and time, so that one person's accesses are adjacent. The
/// columns are `source`, `position`, `time`, those of the history's fields in normal form, `record`, and for the fields
/// that have spellings `…_written`, the value as written where it differs.
///
/// # Errors
/// The format cannot hold the data; a recording never causes this.
pub fn encode(parts: &[Part<'_>]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut file = begin(&mut out)?;
    for rows in by_actor(parts).chunks(GROUP_ROWS) {
        gathered(parts, rows).write(&mut file)?;
    }
    file.close()?;
    Ok(out)
}

/// A row: index of its part, and index in the part.
type Row = (u32, u32);

/// The rows to write, ordered by actor and time.
fn by_actor(parts: &[Part<'_>]) -> Vec<Row> {
    let mut keyed: Vec<(&[u8], Micros, Row)> = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let recording = part.recording;
        let first = recording.positions.partition_point(|&position| position < part.from);
        let actors = recording.fields[ACTOR].each().zip(&recording.times).enumerate().skip(first);
        keyed.extend(
            actors.map(|(row, (actor, &time))| (actor.unwrap_or_default(), time, (at as u32, row as u32))),
        );
    }
    // Rows of the same event keep their order.
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, _, row)| row).collect()
}

fn gathered(parts: &[Part<'_>], rows: &[Row]) -> Group {
    let of = |&(part, row): &Row| (&parts[part as usize], row as usize);
    let sources: Vec<ByteArray> = parts.iter().map(|part| ByteArray::from(part.source)).collect();
    Group {
        sources: rows.iter().map(|row| sources[row.0 as usize].clone()).collect(),
        positions: rows.iter().map(of).map(|(part, row)| part.recording.positions[row] as i64).collect(),
        times: rows.iter().map(of).map(|(part, row)| part.recording.times[row]).collect(),
        texts: std::array::from_fn(|at| {
            let texts: Vec<Vec<Option<&[u8]>>> =
                parts.iter().map(|part| text(part.recording, at).each().collect()).collect();
            Column::of(rows.iter().map(|&(part, row)| texts[part as usize][row as usize]))
        }),
    }
}

/// Column number `at`: the history's fields, the record, then the spellings.
fn text(recording: &Recording, at: usize) -> &Texts {
    let fields = recording.fields.len();
    let spelling = at.checked_sub(fields + 1).and_then(|at| recording.spellings.get(at));
    recording.fields.get(at).or(spelling).unwrap_or(&recording.records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use custodes_cipher::{Key, Keyring, is_encrypted};
    use custodes_engine::{Engine, Input, Plan};
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::file::writer::SerializedFileWriter;
    use parquet::record::RowAccessor;
    use parquet::schema::types::Type;
    use std::num::NonZeroUsize;
    use std::sync::Arc;

    fn recorded(text: &str) -> Recording {
        let plan = r#"{"mapping": {"time": ["time"], "actor": ["actor"], "subject": ["subject"]}, "rules": [],
                       "history": true}"#;
        let mut engine = Engine::new(&Plan::from_json(plan).unwrap(), NonZeroUsize::MIN).unwrap();
        engine.process_lines(text.as_bytes(), 1, Input::default()).recording
    }

    /// The content of a file, row by row.
    fn rows_of(file: impl parquet::file::reader::ChunkReader + 'static) -> Vec<String> {
        let file = SerializedFileReader::new(file).unwrap();
        file.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect()
    }

    #[test]
    fn merged_files_have_the_rows_of_a_single_file() {
        let folder = tempfile::tempdir().unwrap();
        let (most, actors) = (70_000, 37);
        let recordings: Vec<Recording> = [1, 9_000, most, 0]
            .into_iter()
            .map(|events| {
                let lines = (0..events).map(|n| {
                    let subject =
                        if n % 5 == 0 { String::new() } else { format!(",\"subject\":\"S{}\"", n % 977) };
                    format!(
                        "{{\"time\":{},\"actor\":\"P{}\"{subject}}}\n",
                        1_700_000_000 + n / 3,
                        n * 7 % actors
                    )
                });
                recorded(&lines.collect::<String>())
            })
            .collect();
        let sources = ["access/0", "access/1", "access/2", "access/3"];
        let parts: Vec<Part<'_>> = recordings
            .iter()
            .zip(sources)
            .map(|(recording, source)| Part { source, from: 0, recording })
            .collect();
        let files: Vec<_> = parts
            .iter()
            .map(|part| {
                let path = folder.path().join(part.source.replace('/', "-"));
                std::fs::write(&path, encode(&[*part]).unwrap()).unwrap();
                path
            })
            .collect();
        let merged = folder.path().join("merged");
        let at_once = rows_of(Bytes::from(encode(&parts).unwrap()));
        merge(&files, &merged, &Keyring::default()).unwrap();
        assert_eq!(rows_of(std::fs::File::open(&merged).unwrap()), at_once);
        // Some of the inputs are encrypted, and so is the output.
        let keyring =
            Keyring::new(vec![Key::new("now", [1; 32]).unwrap(), Key::new("before", [2; 32]).unwrap()]);
        let before = Keyring::new(vec![Key::new("before", [2; 32]).unwrap()]);
        for (path, keyring) in files.iter().zip([&keyring, &before]) {
            let encrypted = keyring.encrypt(&std::fs::read(path).unwrap()).unwrap();
            std::fs::write(path, encrypted).unwrap();
        }
        merge(&files, &merged, &keyring).unwrap();
        let written = std::fs::read(&merged).unwrap();
        assert!(is_encrypted(&written));
        let only = Keyring::new(vec![Key::new("now", [1; 32]).unwrap()]);
        assert_eq!(rows_of(Bytes::from(only.decrypt(&written).unwrap())), at_once);
        assert!(merge(&files, &merged, &only).is_err(), "the key of one file is missing");
    }

    #[test]
    fn foreign_file_is_not_merged() {
        let folder = tempfile::tempdir().unwrap();
        let (torn, merged) = (folder.path().join("torn"), folder.path().join("merged"));
        let whole = encode(&[Part {
            source: "a",
            from: 0,
            recording: &recorded("{\"time\":1700000001,\"actor\":\"a\"}\n"),
        }])
        .unwrap();
        for length in [0, 4, whole.len() - 1] {
            std::fs::write(&torn, &whole[..length]).unwrap();
            assert!(merge(&[&torn], &merged, &Keyring::default()).is_err());
        }
        assert!(merge(&[folder.path().join("missing")], &merged, &Keyring::default()).is_err());
    }

    #[test]
    fn recording_round_trips() {
        let events = "{\"time\":1700000000,\"actor\":\"a\"}\nnot json\n\n\
                      {\"time\":1700000001,\"actor\":\"b\",\"subject\":[\"x\",\"\\u00e9\"]}\n";
        let recording = recorded(events);
        let parts = [
            Part { source: "access/0", from: 0, recording: &recording },
            Part { source: "access/1", from: 4, recording: &recording },
            Part { source: "access/2", from: 5, recording: &recording },
        ];
        let file = SerializedFileReader::new(Bytes::from(encode(&parts).unwrap())).unwrap();
        let read = |row: parquet::record::Row| {
            let text = |at| row.get_string(at).ok().map(String::as_str);
            let whole = (text(0).unwrap().to_owned(), row.get_long(1).unwrap(), text(3).unwrap().to_owned());
            (whole, text(4).map(str::to_owned), text(11).map(str::len))
        };
        let rows: Vec<_> = file.get_row_iter(None).unwrap().map(|row| read(row.unwrap())).collect();
        let row = |source: &str, position, actor: &str, subject: Option<&str>, record| {
            ((source.to_owned(), position, actor.to_owned()), subject.map(str::to_owned), record)
        };
        assert_eq!(
            rows,
            [
                row("access/0", 1, "a", None, Some(31)),
                row("access/0", 4, "b", Some("x"), Some(56)),
                row("access/0", 4, "b", Some("é"), None),
                row("access/1", 4, "b", Some("x"), Some(56)),
                row("access/1", 4, "b", Some("é"), None),
            ]
        );
    }

    #[test]
    fn normal_forms_and_spellings_are_recorded() {
        let plan = r#"{"mapping": {"time": ["time"], "actor": ["actor"], "subject": ["subject"], "action": ["action"]},
                       "identities": {"actor": {}, "subject": {}}, "actions": {"select": "read"}, "rules": [],
                       "history": true}"#;
        let mut engine = Engine::new(&Plan::from_json(plan).unwrap(), NonZeroUsize::MIN).unwrap();
        let events = "{\"time\":1700000001,\"actor\":\"anna\",\"subject\":[\"X1\",\"x2\"],\"action\":\"SELECT\"}\n\
                      {\"time\":1700000002,\"actor\":\"ANNA\",\"subject\":\"X3\"}\n";
        let recording = engine.process_lines(events.as_bytes(), 1, Input::default()).recording;
        let file = encode(&[Part { source: "a", from: 0, recording: &recording }]).unwrap();
        let file = SerializedFileReader::new(Bytes::from(file)).unwrap();
        let read = |row: parquet::record::Row| {
            [3, 4, 6, 12, 13, 14]
                .map(|at| row.get_string(at).map_or("-", String::as_str).to_owned())
                .join(" ")
        };
        let rows: Vec<_> = file.get_row_iter(None).unwrap().map(|row| read(row.unwrap())).collect();
        assert_eq!(rows, ["ANNA X1 read anna - SELECT", "ANNA X2 read anna x2 SELECT", "ANNA X3 read - - -"]);
    }

    #[test]
    fn files_without_spellings_are_merged() {
        let folder = tempfile::tempdir().unwrap();
        let recording = recorded(
            "{\"time\":1700000001,\"actor\":\"a\"}\n{\"time\":1700000002,\"actor\":\"b\",\"subject\":\"x\"}\n",
        );
        let parts = [Part { source: "a", from: 0, recording: &recording }];
        let now = encode(&parts).unwrap();
        let schema = SerializedFileReader::new(Bytes::from(now.clone())).unwrap();
        let fields = schema.metadata().file_metadata().schema().get_fields();
        let fields = fields[..3 + table::TEXTS_WITHOUT_SPELLINGS].to_vec();
        let schema = Type::group_type_builder("access").with_fields(fields).build().unwrap();
        let paths = ["before", "now", "merged"].map(|name| folder.path().join(name));
        let out = std::fs::File::create(&paths[0]).unwrap();
        let mut file = SerializedFileWriter::new(out, schema.into(), Arc::default()).unwrap();
        gathered(&parts, &by_actor(&parts)).write(&mut file).unwrap();
        file.close().unwrap();
        std::fs::write(&paths[1], &now).unwrap();
        merge(&paths[..2], &paths[2], &Keyring::default()).unwrap();
        let merged = rows_of(std::fs::File::open(&paths[2]).unwrap());
        let twice = rows_of(Bytes::from(now)).into_iter().flat_map(|row| [row.clone(), row]);
        assert_eq!(merged, twice.collect::<Vec<_>>());
    }
}
