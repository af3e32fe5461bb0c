//! Binary format of blocks: entries that were written together.
//!
//! ```text
//! "CEB1" | length u32 | first u64 | count u32 | key 16 | time i64 | previous 32
//! | leaves, 32 each | unpacked u32 | packed u32 | entries, packed | root 32 | signature 64 | seal 32
//! ```
//! Numbers are little-endian; `length` is the length of what follows it. Each entry is a length and bytes; an erased
//! entry has the length [`GONE`], and only its leaf remains. The compressed entries may be encrypted
//! (`custodes-cipher`). Hashes and signatures cover the plain entries, so another key does not change the log. The seal
//! covers all bytes before it and detects decay. The signature covers the leaves, so it stays valid after an erasure.

use crate::head::Head;
use crate::merkle::{self, Hash};
use custodes_cipher::Keyring;
use sha2::{Digest, Sha256};

const MAGIC: &[u8; 4] = b"CEB1";
const GONE: u32 = u32::MAX;
const BEFORE_LENGTH: usize = 8;
const BEFORE_LEAVES: usize = BEFORE_LENGTH + 8 + 4 + 16 + 8 + 32;
const AFTER_ENTRIES: usize = 32 + 64 + 32;
/// Maximum size of one block's entries, in bytes.
pub const MOST_BYTES: usize = 64 << 20;
const LEVEL: i32 = 3;

/// A block as stored, with its entries still compressed.
#[derive(Debug, Clone)]
pub struct Block<'b> {
    /// Number of its first entry.
    pub first: u64,
    /// Subject of its entries.
    pub key: [u8; 16],
    /// Time of writing, in microseconds since the epoch.
    pub time: i64,
    /// Chain hash before the block.
    pub previous: Hash,
    /// Root of the tree after the block.
    pub root: Hash,
    /// Signature of the head after the block.
    pub signature: [u8; 64],
    /// Whether the seal matches the bytes.
    pub is_sealed: bool,
    /// Length in bytes.
    pub length: usize,
    leaves: &'b [u8],
    unpacked: usize,
    packed: &'b [u8],
}

impl<'b> Block<'b> {
    /// Reads the block at the start of `bytes`. `None` if there is no complete block.
    pub fn read(bytes: &'b [u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        if reader.array::<4>()? != *MAGIC {
            return None;
        }
        let length = BEFORE_LENGTH + reader.number()? as usize;
        let bytes = bytes.get(..length)?;
        let mut reader = Reader(&bytes[BEFORE_LENGTH..]);
        let first = u64::from_le_bytes(reader.array()?);
        let count = reader.number()? as usize;
        let key = reader.array()?;
        let time = i64::from_le_bytes(reader.array()?);
        let previous = reader.array()?;
        let leaves = reader.take(count.checked_mul(32)?)?;
        let unpacked = reader.number()? as usize;
        let packed = reader.number()? as usize;
        let packed = reader.take(packed)?;
        let (root, signature, seal) = (reader.array()?, reader.array()?, reader.array::<32>()?);
        let is_whole = reader.0.is_empty() && count > 0 && unpacked <= MOST_BYTES;
        is_whole.then(|| Self {
            first,
            key,
            time,
            previous,
            root,
            signature,
            is_sealed: Sha256::digest(&bytes[..length - 32])[..] == seal,
            length,
            leaves,
            unpacked,
            packed,
        })
    }

    /// Number after its last entry.
    pub fn end(&self) -> u64 {
        self.first + self.leaves.len() as u64 / 32
    }

    /// Leaf hashes of its entries.
    pub fn leaves(&self) -> impl ExactSizeIterator<Item = Hash> + '_ {
        self.leaves.as_chunks::<32>().0.iter().copied()
    }

    /// Chain hash after the block.
    pub fn chain(&self) -> Hash {
        chain(self.first, &self.key, self.time, &self.previous, self.leaves)
    }

    /// The head that was signed after the block.
    pub fn head(&self) -> Head {
        Head { size: self.end(), root: self.root, chain: self.chain(), time: self.time }
    }

    /// Its entries; `None` for erased ones.
    ///
    /// # Errors
    /// `PermissionDenied` if they are encrypted under a key that is not in the keyring, `InvalidData` if they cannot
    /// be decompressed.
    pub fn entries(&self, keyring: &Keyring) -> std::io::Result<Vec<Option<Vec<u8>>>> {
        let packed = keyring.decrypt(self.packed)?;
        let bytes = zstd::bulk::decompress(&packed, self.unpacked).map_err(|_| unpackable())?;
        self.unpack(&bytes).ok_or_else(unpackable)
    }

    fn unpack(&self, bytes: &[u8]) -> Option<Vec<Option<Vec<u8>>>> {
        let mut reader = Reader(bytes);
        let mut entries = Vec::with_capacity(self.leaves.len() / 32);
        for _ in 0..self.leaves.len() / 32 {
            let length = reader.number()?;
            entries.push(if length == GONE { None } else { Some(reader.take(length as usize)?.to_vec()) });
        }
        (reader.0.is_empty() && bytes.len() == self.unpacked).then_some(entries)
    }

    /// The same block as bytes, with some entries erased.
    ///
    /// # Errors
    /// Entries cannot be compressed; `InvalidData` if they cannot be read.
    pub fn without(&self, is_gone: impl Fn(u64) -> bool, keyring: &Keyring) -> std::io::Result<Vec<u8>> {
        let entries = self.entries(keyring)?;
        let left: Vec<_> = (self.first..)
            .zip(&entries)
            .map(|(number, entry)| entry.as_deref().filter(|_| !is_gone(number)))
            .collect();
        let draft = Draft { first: self.first, key: self.key, time: self.time, previous: self.previous };
        draft.bytes(self.leaves, &left, &self.root, &self.signature, keyring)
    }
}

fn unpackable() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, "entries cannot be decompressed")
}

fn chain(first: u64, key: &[u8; 16], time: i64, previous: &Hash, leaves: &[u8]) -> Hash {
    Sha256::new_with_prefix([2])
        .chain_update(first.to_le_bytes())
        .chain_update(key)
        .chain_update(time.to_le_bytes())
        .chain_update(previous)
        .chain_update(leaves)
        .finalize()
        .into()
}

/// A block to be written.
pub(crate) struct Draft {
    pub first: u64,
    pub key: [u8; 16],
    pub time: i64,
    pub previous: Hash,
}

impl Draft {
    /// Encodes a block with these entries; adds them to the tree and returns the new head.
    pub fn write(
        self,
        entries: &[Vec<u8>],
        tree: &mut merkle::Tree,
        keyring: &Keyring,
        sign: impl FnOnce(&Head) -> [u8; 64],
    ) -> std::io::Result<(Vec<u8>, Head, [u8; 64])> {
        let mut leaves = Vec::with_capacity(entries.len() * 32);
        for entry in entries {
            let leaf = merkle::leaf(entry);
            tree.push(leaf);
            leaves.extend(leaf);
        }
        let chain = chain(self.first, &self.key, self.time, &self.previous, &leaves);
        let head = Head { size: tree.size(), root: tree.root(), chain, time: self.time };
        let signature = sign(&head);
        let entries: Vec<_> = entries.iter().map(|entry| Some(&entry[..])).collect();
        let bytes = self.bytes(&leaves, &entries, &head.root, &signature, keyring)?;
        Ok((bytes, head, signature))
    }

    fn bytes(
        &self,
        leaves: &[u8],
        entries: &[Option<&[u8]>],
        root: &Hash,
        signature: &[u8; 64],
        keyring: &Keyring,
    ) -> std::io::Result<Vec<u8>> {
        let mut unpacked = Vec::new();
        for entry in entries {
            unpacked.extend(entry.map_or(GONE, |entry| entry.len() as u32).to_le_bytes());
            unpacked.extend(entry.unwrap_or_default());
        }
        if unpacked.len() > MOST_BYTES {
            return Err(std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                "the entries are too long for one block",
            ));
        }
        let packed = keyring.encrypt(&zstd::bulk::compress(&unpacked, LEVEL)?)?;
        let length = BEFORE_LEAVES - BEFORE_LENGTH + leaves.len() + 8 + packed.len() + AFTER_ENTRIES;
        let mut bytes = Vec::with_capacity(BEFORE_LENGTH + length);
        bytes.extend(MAGIC);
        bytes.extend((length as u32).to_le_bytes());
        bytes.extend(self.first.to_le_bytes());
        bytes.extend((leaves.len() as u32 / 32).to_le_bytes());
        bytes.extend(self.key);
        bytes.extend(self.time.to_le_bytes());
        bytes.extend(self.previous);
        bytes.extend(leaves);
        bytes.extend((unpacked.len() as u32).to_le_bytes());
        bytes.extend((packed.len() as u32).to_le_bytes());
        bytes.extend(packed);
        bytes.extend(root);
        bytes.extend(signature);
        let seal = Sha256::digest(&bytes);
        bytes.extend(seal);
        Ok(bytes)
    }
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn number(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }
}
