//! The log, as seen by its only writer or by a reader.

use crate::block::{Block, Draft, MOST_BYTES};
use crate::head::{Signer, Verifier};
use crate::merkle::{Hash, Levels, Tree};
use crate::walk::{EvidenceFault, LogWalk, Segment, segment_name};
use custodes_cipher::Keyring;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// File with the last head, as a note.
pub(crate) const HEAD: &str = "head";
/// Length of the salt before each entry, in bytes.
pub(crate) const SALT: usize = 16;
const SEGMENT_BYTES: u64 = 32 << 20;

/// Why a log cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The content is not what was written.
    #[error("{}: {}", .0.place, .0.what)]
    Damaged(EvidenceFault),
    /// I/O error.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Location of a block.
#[derive(Debug, Clone)]
struct Place {
    segment: String,
    offset: u64,
    length: usize,
    first: u64,
    end: u64,
}

/// An open log. The caller must ensure that there is only one writer.
pub struct Log {
    folder: PathBuf,
    /// `None` if the log is open for reading.
    signer: Option<Signer>,
    verifier: Verifier,
    size: u64,
    tree: Tree,
    chain: Hash,
    note: Option<String>,
    /// Segment being written, and its length.
    current: Option<(String, u64)>,
    segment_bytes: u64,
    places: BTreeMap<[u8; 16], Vec<Place>>,
    /// Keys of encrypted entries.
    keyring: Keyring,
}

impl Log {
    /// Opens the log in a folder for writing, or creates it. Removes the rest of a write that was interrupted.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the log was changed; nothing may be appended to it.
    pub fn open(folder: &Path, signer: Signer) -> Result<Self, Error> {
        let verifier = signer.verifier();
        Self::look_through(folder, verifier, Some(signer))
    }

    /// Opens a log for reading; it may be written meanwhile.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the log was changed.
    pub fn read(folder: &Path, verifier: Verifier) -> Result<Self, Error> {
        Self::look_through(folder, verifier, None)
    }

    fn look_through(folder: &Path, verifier: Verifier, signer: Option<Signer>) -> Result<Self, Error> {
        let verifiers = [verifier.clone()];
        // Read the head first, because the log may grow meanwhile.
        let note = fs::read_to_string(folder.join(HEAD));
        let mut places: BTreeMap<[u8; 16], Vec<Place>> = BTreeMap::new();
        let mut current = None;
        let mut walk = LogWalk::new(&verifiers);
        walk.through(folder, |segment, offset, block, _| {
            places.entry(block.key).or_default().push(place(segment, offset, block));
            current = Some((segment.name.clone(), (offset + block.length) as u64));
        })?;
        let note = match note {
            Ok(note) => Some(note),
            // The first block was written, but not its head yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound && walk.blocks <= 1 => None,
            Err(error) => return Err(error.into()),
        };
        walk.hold_against(&note.into_iter().map(|note| (HEAD.to_owned(), note)).collect::<Vec<_>>());
        let is_cut_short = walk.tail.is_some() && walk.faults.len() == 1;
        if let (true, Some(tail), Some(_)) = (is_cut_short, &walk.tail, &signer) {
            cut(&tail.segment, tail.offset as u64)?;
            return Self::look_through(folder, verifier, signer);
        }
        if let (false, Some(fault)) = (is_cut_short, walk.faults.into_iter().next()) {
            return Err(Error::Damaged(fault));
        }
        let (chain, note) = match &walk.last {
            Some((head, signature)) => (head.chain, Some(verifier.note(head, signature))),
            None => ([0; 32], None),
        };
        let tree = walk.tree.unwrap_or_default();
        let folder = folder.to_owned();
        Ok(Self {
            folder,
            signer,
            verifier,
            size: walk.next,
            tree,
            chain,
            note,
            current,
            segment_bytes: SEGMENT_BYTES,
            places,
            keyring: Keyring::default(),
        })
    }

    /// Sets the size, in bytes, after which a new segment is started.
    #[must_use]
    pub fn with_segments_of(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Sets the keys to encrypt new entries with, and to read encrypted ones.
    #[must_use]
    pub fn with_keys(mut self, keyring: Keyring) -> Self {
        self.keyring = keyring;
        self
    }

    /// Number of entries.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The last head, as a note; `None` if the log is empty.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Verifier of this log's signatures.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// Subjects of the entries.
    pub fn keys(&self) -> impl Iterator<Item = [u8; 16]> + '_ {
        self.places.keys().copied()
    }

    /// Appends entries about one subject. They are on disk and signed when this returns. `time` is in microseconds.
    ///
    /// # Errors
    /// I/O errors, and `PermissionDenied` if the log is open for reading; nothing was appended then.
    pub fn append(&mut self, key: [u8; 16], entries: &[&[u8]], time: i64) -> Result<(), Error> {
        let mut batch: Vec<Vec<u8>> = Vec::new();
        let mut bytes = 0;
        for entry in entries {
            let mut salted = vec![0; SALT];
            getrandom::fill(&mut salted).map_err(io::Error::from)?;
            salted.extend_from_slice(entry);
            if !batch.is_empty() && bytes + salted.len() > MOST_BYTES / 8 {
                self.write(key, &std::mem::take(&mut batch), time)?;
                bytes = 0;
            }
            bytes += salted.len() + 4;
            batch.push(salted);
        }
        if batch.is_empty() { Ok(()) } else { self.write(key, &batch, time) }
    }

    fn write(&mut self, key: [u8; 16], entries: &[Vec<u8>], time: i64) -> Result<(), Error> {
        let Some(signer) = &self.signer else {
            return Err(io::Error::from(io::ErrorKind::PermissionDenied).into());
        };
        let mut tree = self.tree.clone();
        let draft = Draft { first: self.size, key, time, previous: self.chain };
        let (bytes, head, signature) =
            draft.write(entries, &mut tree, &self.keyring, |head| signer.sign(head))?;
        let (name, offset) = match self.current.take() {
            Some((name, length)) if length < self.segment_bytes => (name, length),
            _ => (segment_name(self.size), 0),
        };
        let segment = Segment { path: self.folder.join(&name), name: name.clone() };
        if let Err(error) = put(&segment.path, offset, &bytes) {
            // Remove what was written: it is not a block, or its head was never returned.
            cut(&segment, offset)?;
            self.current = (offset > 0).then_some((name, offset));
            return Err(error.into());
        }
        if offset == 0 {
            sync(&self.folder)?;
        }
        let (length, first, end) = (bytes.len(), self.size, head.size);
        let place = Place { segment: name.clone(), offset, length, first, end };
        self.places.entry(key).or_default().push(place);
        self.current = Some((name, offset + bytes.len() as u64));
        self.size = head.size;
        self.tree = tree;
        self.chain = head.chain;
        self.note = Some(self.verifier.note(&head, &signature));
        Ok(self.write_head()?)
    }

    fn write_head(&self) -> io::Result<()> {
        let fresh = self.folder.join("head.new");
        let mut file = private().truncate(true).open(&fresh)?;
        file.write_all(self.note.as_deref().unwrap_or_default().as_bytes())?;
        file.sync_data()?;
        fs::rename(fresh, self.folder.join(HEAD))
    }

    /// Runs of entries about a subject: first and last of each.
    pub fn runs(&self, key: &[u8; 16]) -> Vec<(u64, u64)> {
        self.places.get(key).into_iter().flatten().map(|place| (place.first, place.end - 1)).collect()
    }

    /// Entries about a subject with their numbers and salts; erased ones are omitted.
    ///
    /// # Errors
    /// I/O errors, and `InvalidData` if the content was changed.
    pub fn entries(&self, key: &[u8; 16]) -> io::Result<Vec<(u64, Vec<u8>)>> {
        let mut found = Vec::new();
        for place in self.places.get(key).into_iter().flatten() {
            let mut bytes = vec![0; place.length];
            File::open(self.folder.join(&place.segment))?.read_exact_at(&mut bytes, place.offset)?;
            let block =
                Block::read(&bytes).filter(|block| block.is_sealed).ok_or(io::ErrorKind::InvalidData)?;
            let entries = block.entries(&self.keyring)?;
            found.extend((block.first..).zip(entries).filter_map(|(number, entry)| Some((number, entry?))));
        }
        Ok(found)
    }

    /// Inclusion proof of each entry against the last head.
    ///
    /// # Errors
    /// I/O errors, and `InvalidInput` if an entry does not exist.
    pub fn proofs(&self, numbers: &[u64]) -> io::Result<Vec<Vec<Hash>>> {
        let mut leaves = Vec::with_capacity(self.size as usize);
        let verifiers = [self.verifier.clone()];
        LogWalk::new(&verifiers).through(&self.folder, |_, _, block, _| leaves.extend(block.leaves()))?;
        // The log may have grown.
        leaves.truncate(self.size as usize);
        if leaves.len() as u64 != self.size || numbers.iter().any(|&number| number >= self.size) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let levels = Levels::new(leaves);
        Ok(numbers.iter().map(|&number| levels.path(number as usize)).collect())
    }

    /// Erases the entries about these subjects; only their hashes remain. Append an entry that records the erasure
    /// first.
    ///
    /// # Errors
    /// I/O errors, after which some entries may be erased, and `PermissionDenied` if the log is open for reading.
    pub fn erase(&mut self, keys: &[[u8; 16]]) -> io::Result<()> {
        if self.signer.is_none() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mut affected: Vec<String> = keys
            .iter()
            .flat_map(|key| self.places.get(key).into_iter().flatten())
            .map(|place| place.segment.clone())
            .collect();
        affected.sort();
        affected.dedup();
        for name in affected {
            self.rewrite(&name, keys)?;
        }
        Ok(())
    }

    fn rewrite(&mut self, name: &str, keys: &[[u8; 16]]) -> io::Result<()> {
        let segment = Segment { path: self.folder.join(name), name: name.to_owned() };
        let bytes = fs::read(&segment.path)?;
        let mut written = Vec::with_capacity(bytes.len());
        let mut moved = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let block = Block::read(rest).ok_or(io::ErrorKind::InvalidData)?;
            let offset = written.len();
            if keys.contains(&block.key) {
                written.extend(block.without(|_| true, &self.keyring)?);
            } else {
                written.extend_from_slice(&rest[..block.length]);
            }
            let length = written.len() - offset;
            moved.push((block.key, Place { length, ..place(&segment, offset, &block) }));
            rest = &rest[block.length..];
        }
        let fresh = self.folder.join(format!("{name}.new"));
        let mut file = private().truncate(true).open(&fresh)?;
        file.write_all(&written)?;
        file.sync_all()?;
        fs::rename(fresh, &segment.path)?;
        sync(&self.folder)?;
        for (key, moved) in moved {
            for place in
                self.places.entry(key).or_default().iter_mut().filter(|place| place.first == moved.first)
            {
                *place = moved.clone();
            }
        }
        if let Some((current, length)) = &mut self.current
            && current == name
        {
            *length = written.len() as u64;
        }
        Ok(())
    }
}

fn place(segment: &Segment, offset: usize, block: &Block<'_>) -> Place {
    Place {
        segment: segment.name.clone(),
        offset: offset as u64,
        length: block.length,
        first: block.first,
        end: block.end(),
    }
}

/// Files are readable by their owner only.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}

fn put(path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let file = private().open(path)?;
    file.write_all_at(bytes, offset)?;
    file.sync_all()
}

/// Truncates a segment after a complete block; removes it if none is left.
fn cut(segment: &Segment, length: u64) -> io::Result<()> {
    match OpenOptions::new().write(true).open(&segment.path) {
        Ok(_) if length == 0 => fs::remove_file(&segment.path),
        Ok(file) => {
            file.set_len(length)?;
            file.sync_all()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
