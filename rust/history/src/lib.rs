//! Recordings as Parquet.
//!
//! The format is open: who looked up whom can be asked with any tool, for as long as it is kept. Values of few kinds are
//! dictionaries; times and positions are differences; a Bloom filter a row group says which subjects are not in it, so that
//! asking for one reads next to nothing of a history of millions.
#![deny(unsafe_code)]

use bytes::Bytes;
use custodes_engine::{HISTORY_FIELDS, Recording, Texts};
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

/// Columns that are looked for by themselves.
const SOUGHT: [&str; 2] = ["actor", "subject"];

/// Columns whose values hardly come twice: a dictionary of them would only be in the way.
const DISTINCT: [&str; 1] = ["record"];

/// A row group is closed when it has so many rows.
const GROUP_ROWS: usize = 1 << 17;

/// Writes the parts as one Parquet file. The columns are `source`, `position`, `time`, those of the history's fields and
/// `record`.
///
/// # Errors
/// What the format cannot hold; nothing that a recording has.
pub fn encode(parts: &[Part<'_>]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut file = SerializedFileWriter::new(&mut out, Arc::new(schema()?), Arc::new(properties()?))?;
    let mut group: Vec<Fresh<'_>> = Vec::new();
    let mut rows = 0;
    for fresh in parts.iter().map(Fresh::of).filter(|fresh| fresh.rows() > 0) {
        rows += fresh.rows();
        group.push(fresh);
        if rows >= GROUP_ROWS {
            write_group(&mut file, &group)?;
            group.clear();
            rows = 0;
        }
    }
    if rows > 0 {
        write_group(&mut file, &group)?;
    }
    file.close()?;
    Ok(out)
}

/// The rows of a part that are not written yet.
struct Fresh<'r> {
    source: &'r str,
    recording: &'r Recording,
    first: usize,
}

impl<'r> Fresh<'r> {
    fn of(part: &Part<'r>) -> Self {
        let &Part { source, from, recording } = part;
        Self { source, recording, first: recording.positions.partition_point(|&position| position < from) }
    }

    fn rows(&self) -> usize {
        self.recording.len() - self.first
    }
}

fn write_group<W: Write + Send>(file: &mut SerializedFileWriter<W>, parts: &[Fresh<'_>]) -> Result<()> {
    let mut group = file.next_row_group()?;
    column::<ByteArrayType, _>(&mut group, parts, |part| {
        (vec![ByteArray::from(part.source); part.rows()], None)
    })?;
    column::<Int64Type, _>(&mut group, parts, |part| {
        (part.recording.positions[part.first..].iter().map(|&position| position as i64).collect(), None)
    })?;
    column::<Int64Type, _>(&mut group, parts, |part| (part.recording.times[part.first..].to_vec(), None))?;
    for at in 0..HISTORY_FIELDS.len() {
        column::<ByteArrayType, _>(&mut group, parts, |part| texts(&part.recording.fields[at], part.first))?;
    }
    column::<ByteArrayType, _>(&mut group, parts, |part| texts(&part.recording.records, part.first))?;
    group.close()?;
    Ok(())
}

/// A column's values, and of each row whether it has one; `None` where all have.
type Values<T> = (Vec<T>, Option<Vec<i16>>);

fn column<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    parts: &[Fresh<'_>],
    of: impl Fn(&Fresh<'_>) -> Values<T::T>,
) -> Result<()> {
    if let Some(mut column) = group.next_column()? {
        for part in parts {
            let (values, is_there) = of(part);
            column.typed::<T>().write_batch(&values, is_there.as_deref(), None)?;
        }
        column.close()?;
    }
    Ok(())
}

/// The texts from a row on.
fn texts(texts: &Texts, first: usize) -> Values<ByteArray> {
    let bytes = Bytes::copy_from_slice(texts.bytes());
    let mut is_there = Vec::new();
    let mut values = Vec::new();
    for span in texts.spans().skip(first) {
        is_there.push(i16::from(span.is_some()));
        values.extend(span.map(|(start, end)| ByteArray::from(bytes.slice(start..end))));
    }
    (values, Some(is_there))
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
        properties = properties
            .set_column_dictionary_enabled(path(name), false)
            .set_column_statistics_enabled(path(name), EnabledStatistics::None);
    }
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
