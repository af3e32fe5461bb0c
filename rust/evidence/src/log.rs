//! The log as its one writer has it.

use crate::block::{Block, Draft, MOST_BYTES};
use crate::head::{Signer, Verifier};
use crate::merkle::{Hash, Levels, Tree};
use crate::walk::{Fault, Segment, Walk, segment_name};
use custodes_cipher::Keyring;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The file in the folder that has the last head, as a note.
pub(crate) const HEAD: &str = "head";
/// How many random bytes are before each entry.
pub(crate) const SALT: usize = 16;
const SEGMENT_BYTES: u64 = 32 << 20;

/// Why a log cannot be had, or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is there is not what was written.
    #[error("{}: {}", .0.place, .0.what)]
    Damaged(Fault),
    /// What the disk refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Where a block is.
#[derive(Debug, Clone)]
struct Place {
    segment: String,
    offset: u64,
    length: usize,
    first: u64,
    end: u64,
}

/// A log that is open. That one alone writes it is the caller's to see to.
pub struct Log {
    folder: PathBuf,
    /// `None` where it is open for reading.
    signer: Option<Signer>,
    verifier: Verifier,
    size: u64,
    tree: Tree,
    chain: Hash,
    note: Option<String>,
    /// The segment that is written to, and its length.
    current: Option<(String, u64)>,
    segment_bytes: u64,
    places: BTreeMap<[u8; 16], Vec<Place>>,
    /// What entries are encrypted with.
    keyring: Keyring,
}

impl Log {
    /// Opens the log in a folder, or begins one. What a write left that was cut short goes.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the log is not as it was written: nothing is added to such a one.
    pub fn open(folder: &Path, signer: Signer) -> Result<Self, Error> {
        let verifier = signer.verifier();
        Self::look_through(folder, verifier, Some(signer))
    }

    /// Opens a log for reading, which may be written meanwhile.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the log is not as it was written.
    pub fn read(folder: &Path, verifier: Verifier) -> Result<Self, Error> {
        Self::look_through(folder, verifier, None)
    }

    fn look_through(folder: &Path, verifier: Verifier, signer: Option<Signer>) -> Result<Self, Error> {
        let verifiers = [verifier.clone()];
        // Asked first: the log may grow meanwhile.
        let note = fs::read_to_string(folder.join(HEAD));
        let mut places: BTreeMap<[u8; 16], Vec<Place>> = BTreeMap::new();
        let mut current = None;
        let mut walk = Walk::new(&verifiers);
        walk.through(folder, |segment, offset, block, _| {
            places.entry(block.key).or_default().push(place(segment, offset, block));
            current = Some((segment.name.clone(), (offset + block.length) as u64));
        })?;
        let note = match note {
            Ok(note) => Some(note),
            // The first block of all was written, and not yet its head.
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

    /// Begins a new segment once one has so many bytes.
    #[must_use]
    pub fn with_segments_of(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Encrypts what is written from now on, and reads what was encrypted.
    #[must_use]
    pub fn with_keys(mut self, keyring: Keyring) -> Self {
        self.keyring = keyring;
        self
    }

    /// How many entries there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The last head, as a note; `None` of an empty log.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Who checks what this log signs.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// What there are entries about.
    pub fn keys(&self) -> impl Iterator<Item = [u8; 16]> + '_ {
        self.places.keys().copied()
    }

    /// Adds entries about one thing. They are on the disk, and signed, once this returns. `time` is in microseconds.
    ///
    /// # Errors
    /// What the disk refuses, and `PermissionDenied` of a log that is open for reading; then nothing was added.
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
            // What of it was written is no block yet, or one that nobody was told of.
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

    /// The runs of entries about a thing: the first and the last of each.
    pub fn runs(&self, key: &[u8; 16]) -> Vec<(u64, u64)> {
        self.places.get(key).into_iter().flatten().map(|place| (place.first, place.end - 1)).collect()
    }

    /// The entries about a thing, with their numbers, their salts before them; those that are gone are left out.
    ///
    /// # Errors
    /// What the disk refuses, and `InvalidData` for what is not as it was written.
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

    /// The way from each of these entries to the root of the last head.
    ///
    /// # Errors
    /// What the disk refuses, `InvalidInput` for a number that is no entry's.
    pub fn proofs(&self, numbers: &[u64]) -> io::Result<Vec<Vec<Hash>>> {
        let mut leaves = Vec::with_capacity(self.size as usize);
        let verifiers = [self.verifier.clone()];
        Walk::new(&verifiers).through(&self.folder, |_, _, block, _| leaves.extend(block.leaves()))?;
        // There may be more by now.
        leaves.truncate(self.size as usize);
        if leaves.len() as u64 != self.size || numbers.iter().any(|&number| number >= self.size) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let levels = Levels::new(leaves);
        Ok(numbers.iter().map(|&number| levels.path(number as usize)).collect())
    }

    /// Takes the entries about these things away for good; only their hashes stay. Say before, in an entry, that it is so.
    ///
    /// # Errors
    /// What the disk refuses, when some may be gone, and `PermissionDenied` of a log that is open for reading.
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

/// How files are opened: their owner alone may read who looked up whom.
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

/// Cuts a segment where a whole block ends; one that has none goes.
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
