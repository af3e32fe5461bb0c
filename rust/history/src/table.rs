//! The table: columns, their encoding, and one row group.

use bytes::Bytes;
use custodes_engine::{HISTORY_FIELDS, HISTORY_SPELLED};
use parquet::basic::{Compression, Encoding, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int64Type};
use parquet::errors::Result;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{ColumnPath, Type};
use std::io::Write;
use std::sync::Arc;

/// Columns that are searched across all actors.
const SOUGHT: [&str; 1] = ["subject"];

/// Columns with mostly distinct values, for which a dictionary would be a waste.
const DISTINCT: [&str; 5] = ["subject", "subject_written", "purpose", "client_ip", "record"];

/// Rows per group, few enough that one person's rows are in few groups.
pub(crate) const GROUP_ROWS: usize = 1 << 16;

/// Rows per page. Readers decode whole pages, and one person's rows are in few of them.
const PAGE_ROWS: usize = 1 << 13;

/// Text columns of files of version 0.2: the history's fields and the record.
pub(crate) const TEXTS_WITHOUT_SPELLINGS: usize = HISTORY_FIELDS.len() + 1;

/// Text columns: the history's fields, the record, and the spellings.
pub(crate) const TEXTS: usize = TEXTS_WITHOUT_SPELLINGS + HISTORY_SPELLED.len();

/// An optional text column.
#[derive(Debug, Default)]
pub(crate) struct Column {
    /// Values of the rows that have one.
    pub values: Vec<ByteArray>,
    /// For each row, 1 if it has a value, otherwise 0.
    pub is_there: Vec<i16>,
}

impl Column {
    pub(crate) fn of<'t>(rows: impl Iterator<Item = Option<&'t [u8]>>) -> Self {
        let (mut bytes, mut ends, mut is_there) = (Vec::new(), Vec::new(), Vec::new());
        for text in rows {
            is_there.push(i16::from(text.is_some()));
            if let Some(text) = text {
                bytes.extend_from_slice(text);
                ends.push(bytes.len());
            }
        }
        let bytes = Bytes::from(bytes);
        let mut start = 0;
        let slices = ends.into_iter().map(|end| bytes.slice(std::mem::replace(&mut start, end)..end));
        Self { values: slices.map(ByteArray::from).collect(), is_there }
    }
}

/// One row group, by column.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub sources: Vec<ByteArray>,
    pub positions: Vec<i64>,
    pub times: Vec<i64>,
    pub texts: [Column; TEXTS],
}

impl Group {
    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }

    pub(crate) fn write<W: Write + Send>(&self, file: &mut SerializedFileWriter<W>) -> Result<()> {
        let mut group = file.next_row_group()?;
        put::<ByteArrayType, _>(&mut group, &self.sources, None)?;
        put::<Int64Type, _>(&mut group, &self.positions, None)?;
        put::<Int64Type, _>(&mut group, &self.times, None)?;
        for column in &self.texts {
            put::<ByteArrayType, _>(&mut group, &column.values, Some(&column.is_there))?;
        }
        group.close()?;
        Ok(())
    }
}

/// `is_there` tells for each row whether it has a value; `None` if all have.
fn put<T: DataType, W: Write + Send>(
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

/// Starts a file of the table.
pub(crate) fn begin<W: Write + Send>(out: W) -> Result<SerializedFileWriter<W>> {
    SerializedFileWriter::new(out, Arc::new(schema()?), Arc::new(properties()?))
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
    let written = HISTORY_SPELLED.map(|name| format!("{name}_written"));
    for name in HISTORY_FIELDS.into_iter().chain(["record"]).chain(written.iter().map(String::as_str)) {
        columns.push(text(name, Repetition::OPTIONAL)?);
    }
    Type::group_type_builder("access").with_fields(columns.into_iter().map(Arc::new).collect()).build()
}

fn properties() -> Result<WriterProperties> {
    let path = |name: &str| ColumnPath::from(name);
    let mut properties = WriterProperties::builder()
        .set_created_by(format!("custodes {}", env!("CARGO_PKG_VERSION")))
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_data_page_row_count_limit(PAGE_ROWS)
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
