//! Recordings as Parquet.
//!
//! The format is open: who looked up whom can be asked with any tool, for as long as it is kept. Values of few kinds are
//! dictionaries; times and positions are differences; a Bloom filter a row group says which subjects are not in it, so that
//! asking for one reads next to nothing of a history of millions.
#![deny(unsafe_code)]

use bytes::Bytes;
use custodes_engine::{HISTORY_FIELDS, Micros, Recording, Texts};
use parquet::basic::{Compression, Encoding, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int64Type};
use parquet::errors::Result;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{ColumnPath, Type};
use std::io::Write;
use std::sync::Arc;

/// What one stream has for the history.
#[derive(Debug, Clone, Copy)]
pub struct Part<'r> {
    /// The stream's name, the same in every process.
    pub source: &'r str,
    /// Events before this position have been written already.
    pub from: u64,
    /// The events.
    pub recording: &'r Recording,
}

/// Where the actor is among the history's fields.
const ACTOR: usize = 0;

/// Columns that are looked for across all actors.
const SOUGHT: [&str; 1] = ["subject"];

/// Columns whose values hardly come twice in a group: a dictionary of them would only be in the way.
const DISTINCT: [&str; 4] = ["subject", "purpose", "client_ip", "record"];

/// Rows of a group: few enough that who is asked for is in few of them.
const GROUP_ROWS: usize = 1 << 16;

/// Writes the parts as one Parquet file, sorted by actor and time, so that one person's look-ups lie together. The columns are
/// `source`, `position`, `time`, those of the history's fields and `record`.
///
/// # Errors
/// What the format cannot hold; nothing that a recording has.
pub fn encode(parts: &[Part<'_>]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut file = SerializedFileWriter::new(&mut out, Arc::new(schema()?), Arc::new(properties()?))?;
    for rows in by_actor(parts).chunks(GROUP_ROWS) {
        write_group(&mut file, parts, rows)?;
    }
    file.close()?;
    Ok(out)
}

/// A row: its part, and its number there.
type Row = (u32, u32);

/// The rows that are not written yet, by actor and time.
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
    // Of one event the rows stay in their order.
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, _, row)| row).collect()
}

fn write_group<W: Write + Send>(
    file: &mut SerializedFileWriter<W>,
    parts: &[Part<'_>],
    rows: &[Row],
) -> Result<()> {
    let mut group = file.next_row_group()?;
    let of = |&(part, row): &Row| (&parts[part as usize], row as usize);
    let sources: Vec<ByteArray> = parts.iter().map(|part| ByteArray::from(part.source)).collect();
    let sources: Vec<ByteArray> = rows.iter().map(|row| sources[row.0 as usize].clone()).collect();
    column::<ByteArrayType, _>(&mut group, &sources, None)?;
    let positions = rows.iter().map(of).map(|(part, row)| part.recording.positions[row] as i64);
    column::<Int64Type, _>(&mut group, &positions.collect::<Vec<_>>(), None)?;
    let times = rows.iter().map(of).map(|(part, row)| part.recording.times[row]);
    column::<Int64Type, _>(&mut group, &times.collect::<Vec<_>>(), None)?;
    for at in 0..HISTORY_FIELDS.len() {
        text_column(&mut group, parts, rows, |recording| &recording.fields[at])?;
    }
    text_column(&mut group, parts, rows, |recording| &recording.records)?;
    group.close()?;
    Ok(())
}

fn text_column<W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    parts: &[Part<'_>],
    rows: &[Row],
    of: impl Fn(&Recording) -> &Texts,
) -> Result<()> {
    let texts: Vec<Vec<Option<&[u8]>>> =
        parts.iter().map(|part| of(part.recording).each().collect()).collect();
    let mut bytes = Vec::new();
    let mut ends = Vec::with_capacity(rows.len());
    let mut is_there = Vec::with_capacity(rows.len());
    for &(part, row) in rows {
        let text = texts[part as usize][row as usize];
        is_there.push(i16::from(text.is_some()));
        if let Some(text) = text {
            bytes.extend_from_slice(text);
            ends.push(bytes.len());
        }
    }
    let bytes = Bytes::from(bytes);
    let mut start = 0;
    let values =
        ends.into_iter().map(|end| ByteArray::from(bytes.slice(std::mem::replace(&mut start, end)..end)));
    column::<ByteArrayType, _>(group, &values.collect::<Vec<_>>(), Some(&is_there))
}

/// `is_there` says of each row whether it has a value; `None`: all have.
fn column<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &[T::T],
    is_there: Option<&[i16]>,
) -> Result<()> {
    if let Some(mut column) = group.next_column()? {
        column.typed::<T>().write_batch(values, is_there, None)?;
        column.close()?;
    }
    Ok(())
}

fn schema() -> Result<Type> {
    let text = |name: &str, repetition| {
        Type::primitive_type_builder(name, Physical::BYTE_ARRAY)
            .with_repetition(repetition)
            .with_logical_type(Some(LogicalType::String))
            .build()
    };
    let number = |name: &'static str| {
        Type::primitive_type_builder(name, Physical::INT64).with_repetition(Repetition::REQUIRED)
    };
    let mut columns = vec![
        text("source", Repetition::REQUIRED)?,
        number("position").build()?,
        number("time").with_logical_type(Some(LogicalType::timestamp(true, TimeUnit::MICROS))).build()?,
    ];
    for name in HISTORY_FIELDS.into_iter().chain(["record"]) {
        columns.push(text(name, Repetition::OPTIONAL)?);
    }
    Type::group_type_builder("access").with_fields(columns.into_iter().map(Arc::new).collect()).build()
}

fn properties() -> Result<WriterProperties> {
    let path = |name: &str| ColumnPath::from(name);
    let mut properties = WriterProperties::builder()
        .set_created_by(format!("custodes {}", env!("CARGO_PKG_VERSION")))
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_statistics_enabled(EnabledStatistics::Chunk);
    for name in ["position", "time"] {
        properties = properties
            .set_column_dictionary_enabled(path(name), false)
            .set_column_encoding(path(name), Encoding::DELTA_BINARY_PACKED);
    }
    for name in DISTINCT {
        properties = properties.set_column_dictionary_enabled(path(name), false);
    }
    properties = properties.set_column_statistics_enabled(path("record"), EnabledStatistics::None);
    for name in SOUGHT {
        properties = properties.set_column_bloom_filter_enabled(path(name), true);
    }
    Ok(properties.build())
}

#[cfg(test)]
mod tests {
    use super::*;
    use custodes_engine::{Engine, Input, Plan};
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;
    use std::num::NonZeroUsize;

    fn recorded(text: &str) -> Recording {
        let plan = r#"{"mapping": {"time": ["time"], "actor": ["actor"], "subject": ["subject"]}, "rules": [],
                       "history": true}"#;
        let mut engine = Engine::new(&Plan::from_json(plan).unwrap(), NonZeroUsize::MIN).unwrap();
        engine.process_lines(text.as_bytes(), 1, Input::default()).recording
    }

    #[test]
    fn what_was_recorded_is_read_again() {
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
}
