//! Merging sorted Parquet files into one: a k-way merge by actor and time.
//!
//! Memory: a few thousand rows of each input and one row group of the output.

use crate::table::{Column, GROUP_ROWS, Group, TEXTS, TEXTS_WITHOUT_SPELLINGS, begin};
use bytes::{Buf, Bytes};
use custodes_cipher::{Keyring, Output, StoredInput};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, FileReader, Length, SerializedFileReader};
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

/// Rows read from a file at a time.
const BATCH_ROWS: usize = 1 << 12;

/// Bytes read from a file at a time.
const STRETCH: usize = 1 << 16;

/// Merges files that are sorted by actor and time and have the columns of this crate. Rows with equal keys keep the
/// order of their files. The output is readable by its owner only, encrypted if the keyring has a key, and on disk
/// when this returns.
///
/// # Errors
/// A file cannot be read or written.
pub fn merge(inputs: &[impl AsRef<Path>], output: &Path, keyring: &Keyring) -> Result<()> {
    let out = File::options().write(true).create(true).truncate(true).mode(0o600).open(output)?;
    let mut heads =
        inputs.iter().map(|path| MergeInput::open(path.as_ref(), keyring)).collect::<Result<Vec<_>>>()?;
    let mut file = begin(Output::begin(&out, keyring)?)?;
    let mut group = Group::default();
    while let Some((first, until)) = next(&heads) {
        // Rows of one actor are adjacent, so the file that was first usually still is.
        loop {
            heads[first].move_into(&mut group);
            if group.len() == GROUP_ROWS {
                std::mem::take(&mut group).write(&mut file)?;
            }
            heads[first].advance()?;
            let goes_on = match (heads[first].key(), until.map(|second| (second, heads[second].key()))) {
                (None, _) => false,
                (Some(_), None) => true,
                (key, Some((second, bound))) => (key, first) < (bound, second),
            };
            if !goes_on {
                break;
            }
        }
    }
    if group.len() > 0 {
        group.write(&mut file)?;
    }
    file.into_inner()?.finish()?;
    Ok(out.sync_all()?)
}

/// The file with the first row, and the file with the first row of all others.
fn next(heads: &[MergeInput]) -> Option<(usize, Option<usize>)> {
    let mut order: [Option<usize>; 2] = [None; 2];
    let comes_before = |one: usize, other: Option<usize>| {
        other.is_none_or(|other| (heads[one].key(), one) < (heads[other].key(), other))
    };
    for at in (0..heads.len()).filter(|&at| heads[at].key().is_some()) {
        if comes_before(at, order[0]) {
            order = [Some(at), order[0]];
        } else if comes_before(at, order[1]) {
            order[1] = Some(at);
        }
    }
    order[0].map(|first| (first, order[1]))
}

/// A file as read by Parquet.
struct ParquetBytes(Arc<StoredInput>);

impl Length for ParquetBytes {
    fn len(&self) -> u64 {
        // If the length cannot be read, neither can the content, and that read returns the error.
        self.0.len().unwrap_or_default()
    }
}

impl ChunkReader for ParquetBytes {
    type T = Stretch;

    fn get_read(&self, start: u64) -> Result<Stretch> {
        Ok(Stretch { of: Arc::clone(&self.0), at: start, read: Bytes::new() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let read = self.0.read_at(start, length)?;
        if read.len() < length {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(read.into())
    }
}

/// A file from some position on, read a few pages at a time.
struct Stretch {
    of: Arc<StoredInput>,
    at: u64,
    read: Bytes,
}

impl io::Read for Stretch {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if !self.read.has_remaining() {
            self.read = self.of.read_at(self.at, STRETCH)?.into();
            self.at += self.read.len() as u64;
        }
        let taken = bytes.len().min(self.read.len());
        self.read.copy_to_slice(&mut bytes[..taken]);
        Ok(taken)
    }
}

/// A file and the position up to which it was read.
struct MergeInput {
    file: SerializedFileReader<ParquetBytes>,
    next_group: usize,
    columns: Vec<ColumnReader>,
    rows: Group,
    /// The next row, and the indices of its texts.
    at: usize,
    texts_at: [usize; TEXTS],
}

impl MergeInput {
    fn open(path: &Path, keyring: &Keyring) -> Result<Self> {
        let file = SerializedFileReader::new(ParquetBytes(Arc::new(StoredInput::open(path, keyring)?)))?;
        let mut head = Self {
            file,
            next_group: 0,
            columns: Vec::new(),
            rows: Group::default(),
            at: 0,
            texts_at: [0; TEXTS],
        };
        head.read()?;
        Ok(head)
    }

    /// Sort key: the actor, which is the first text, and the time. `None` after the last row.
    fn key(&self) -> Option<(&[u8], i64)> {
        let time = *self.rows.times.get(self.at)?;
        let actor = &self.rows.texts[0];
        let text = if actor.is_there[self.at] == 0 { &[] } else { actor.values[self.texts_at[0]].data() };
        Some((text, time))
    }

    fn move_into(&mut self, group: &mut Group) {
        let at = self.at;
        group.sources.push(std::mem::take(&mut self.rows.sources[at]));
        group.positions.push(self.rows.positions[at]);
        group.times.push(self.rows.times[at]);
        for ((from, next), to) in self.rows.texts.iter_mut().zip(&self.texts_at).zip(&mut group.texts) {
            to.is_there.push(from.is_there[at]);
            if from.is_there[at] == 1 {
                to.values.push(std::mem::take(&mut from.values[*next]));
            }
        }
    }

    fn advance(&mut self) -> Result<()> {
        for (next, column) in self.texts_at.iter_mut().zip(&self.rows.texts) {
            *next += usize::from(column.is_there[self.at] == 1);
        }
        self.at += 1;
        if self.at == self.rows.len() { self.read() } else { Ok(()) }
    }

    /// Reads the next rows, if there are any.
    fn read(&mut self) -> Result<()> {
        self.rows = Group::default();
        self.at = 0;
        self.texts_at = [0; TEXTS];
        while self.rows.len() == 0 {
            if self.columns.is_empty() && !self.open_group()? {
                return Ok(());
            }
            self.rows = read_rows(&mut self.columns)?;
            if self.rows.len() == 0 {
                self.columns.clear();
            }
        }
        Ok(())
    }

    fn open_group(&mut self) -> Result<bool> {
        if self.next_group == self.file.num_row_groups() {
            return Ok(false);
        }
        let group = self.file.get_row_group(self.next_group)?;
        self.next_group += 1;
        self.columns =
            (0..group.num_columns()).map(|at| group.get_column_reader(at)).collect::<Result<_>>()?;
        Ok(true)
    }
}

fn read_rows(columns: &mut [ColumnReader]) -> Result<Group> {
    let [
        ColumnReader::ByteArrayColumnReader(sources),
        ColumnReader::Int64ColumnReader(positions),
        ColumnReader::Int64ColumnReader(times),
        texts @ ..,
    ] = columns
    else {
        return Err(of_other_columns());
    };
    if ![TEXTS, TEXTS_WITHOUT_SPELLINGS].contains(&texts.len()) {
        return Err(of_other_columns());
    }
    let mut group = Group {
        sources: read_column(sources)?.0,
        positions: read_column(positions)?.0,
        times: read_column(times)?.0,
        ..Group::default()
    };
    for (reader, column) in texts.iter_mut().zip(&mut group.texts) {
        let ColumnReader::ByteArrayColumnReader(reader) = reader else {
            return Err(of_other_columns());
        };
        let (values, is_there): (Vec<ByteArray>, _) = read_column(reader)?;
        let is_there = if is_there.is_empty() { vec![1; values.len()] } else { is_there };
        *column = Column { values, is_there };
    }
    let rows = group.len();
    for column in &mut group.texts[texts.len()..] {
        column.is_there = vec![0; rows];
    }
    let is_even = group.sources.len() == rows
        && group.positions.len() == rows
        && group.texts.iter().all(|text| text.is_there.len() == rows);
    if is_even { Ok(group) } else { Err(ParquetError::General("its columns differ in length".into())) }
}

/// Returns the values, and for each row whether it has one; the latter is empty for a required column.
fn read_column<T: DataType>(reader: &mut ColumnReaderImpl<T>) -> Result<(Vec<T::T>, Vec<i16>)> {
    let (mut values, mut is_there) = (Vec::with_capacity(BATCH_ROWS), Vec::new());
    reader.read_records(BATCH_ROWS, Some(&mut is_there), None, &mut values)?;
    Ok((values, is_there))
}

fn of_other_columns() -> ParquetError {
    ParquetError::General("it is no file of a history: its columns are others".into())
}
