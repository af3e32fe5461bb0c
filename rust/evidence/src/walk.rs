//! Walk over all blocks of a folder, with the invariants between consecutive blocks.

use crate::block::Block;
use crate::head::{Head, Verifier};
use crate::merkle::{Hash, Tree};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A deviation from what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceFault {
    /// The file, or the head that contradicts it.
    pub place: String,
    /// Byte offset in the file.
    pub offset: Option<u64>,
    /// First and last entry concerned, if known.
    pub entries: Option<(u64, u64)>,
    /// Description.
    pub what: String,
}

/// A file of blocks. Its name is the number of its first entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub name: String,
    pub path: PathBuf,
}

const SUFFIX: &str = ".evidence";

/// Name of the segment that starts with an entry.
pub(crate) fn segment_name(first: u64) -> String {
    format!("{first:016}{SUFFIX}")
}

/// Segments of a folder, in the order of their names.
pub(crate) fn segments(folder: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for file in fs::read_dir(folder)? {
        let file = file?;
        if let Ok(name) = file.file_name().into_string()
            && name.ends_with(SUFFIX)
        {
            segments.push(Segment { name, path: file.path() });
        }
    }
    segments.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(segments)
}

/// Bytes at the end of the last segment that are not a complete block: the rest of an interrupted write.
#[derive(Debug, Clone)]
pub(crate) struct Tail {
    pub segment: Segment,
    pub offset: usize,
}

/// A signature that was not verified yet.
struct Signed {
    offset: usize,
    first: u64,
    head: Head,
    signature: [u8; 64],
}

/// State of the walk.
pub(crate) struct LogWalk<'v> {
    verifiers: &'v [Verifier],
    pub faults: Vec<EvidenceFault>,
    pub blocks: u64,
    /// Number of the next entry.
    pub next: u64,
    /// `None` after an unknown leaf: from there on every block is verified by its own signature.
    pub tree: Option<Tree>,
    /// Root and chain hash of every block, by the number after its last entry.
    ends: HashMap<u64, (Hash, Hash)>,
    pub last: Option<(Head, [u8; 64])>,
    pub tail: Option<Tail>,
}

impl<'v> LogWalk<'v> {
    pub fn new(verifiers: &'v [Verifier]) -> Self {
        Self {
            verifiers,
            faults: Vec::new(),
            blocks: 0,
            next: 0,
            tree: Some(Tree::default()),
            ends: HashMap::new(),
            last: None,
            tail: None,
        }
    }

    /// Walks through a folder. `visit` is called for each block and may report further faults.
    pub fn through(
        &mut self,
        folder: &Path,
        mut visit: impl FnMut(&Segment, usize, &Block<'_>, &mut Vec<EvidenceFault>),
    ) -> io::Result<()> {
        for segment in segments(folder)? {
            let bytes = fs::read(&segment.path)?;
            let mut signed = Vec::new();
            let mut was_whole = self.tree.is_some();
            let mut offset = 0;
            self.tail = None;
            while offset < bytes.len() {
                let Some(block) = Block::read(&bytes[offset..]) else {
                    let next = next_block(&bytes, offset + 1);
                    if next.is_none() {
                        self.tail = Some(Tail { segment: segment.clone(), offset });
                    }
                    self.unreadable(&segment, offset, next.unwrap_or(bytes.len()));
                    was_whole = false;
                    offset = next.unwrap_or(bytes.len());
                    continue;
                };
                self.take(&segment, offset, &block);
                visit(&segment, offset, &block, &mut self.faults);
                signed.push(Signed {
                    offset,
                    first: block.first,
                    head: block.head(),
                    signature: block.signature,
                });
                offset += block.length;
            }
            self.check_signatures(&segment, &signed, was_whole && self.tree.is_some());
        }
        Ok(())
    }

    fn unreadable(&mut self, segment: &Segment, offset: usize, until: usize) {
        self.tree = None;
        let what = format!(
            "{} bytes are not a block; they may contain entries from {} on",
            until - offset,
            self.next
        );
        self.fault(segment, offset, None, what);
    }

    fn take(&mut self, segment: &Segment, offset: usize, block: &Block<'_>) {
        let entries = Some((block.first, block.end() - 1));
        self.blocks += 1;
        if !block.is_sealed {
            self.fault(segment, offset, entries, "the block's bytes are not those that were written".into());
        }
        if block.first > self.next {
            self.tree = None;
            let missing = Some((self.next, block.first - 1));
            let what = format!("entries are missing: the next block starts with entry {}", block.first);
            self.fault(segment, offset, missing, what);
        } else if block.first < self.next {
            self.tree = None;
            self.fault(segment, offset, entries, "entries are out of order or repeated".into());
        }
        let before =
            if block.first == 0 { Some([0; 32]) } else { self.ends.get(&block.first).map(|end| end.1) };
        if before.is_some_and(|chain| chain != block.previous) {
            self.tree = None;
            self.fault(segment, offset, entries, "the block does not continue the previous one".into());
        }
        if let Some(tree) = &mut self.tree {
            block.leaves().for_each(|leaf| tree.push(leaf));
            if tree.root() != block.root {
                self.tree = None;
                self.fault(segment, offset, entries, "the entries do not match the root".into());
            }
        }
        self.next = self.next.max(block.end());
        self.ends.insert(block.end(), (block.root, block.chain()));
        self.last = Some((block.head(), block.signature));
    }

    /// A head's root covers all entries before it, so while the tree is complete the last signature of a segment
    /// covers all of it.
    fn check_signatures(&mut self, segment: &Segment, signed: &[Signed], is_whole: bool) {
        let is_signed =
            |one: &Signed| self.verifiers.iter().any(|key| key.is_signed(&one.head, &one.signature));
        if is_whole && signed.last().is_none_or(is_signed) {
            return;
        }
        let unsigned: Vec<_> = signed.iter().filter(|one| !is_signed(one)).collect();
        for one in unsigned {
            let entries = Some((one.first, one.head.size - 1));
            self.fault(segment, one.offset, entries, "the block was not signed with the log's key".into());
        }
    }

    /// Compares the log with heads stored elsewhere, each with the name of its place.
    pub fn hold_against(&mut self, heads: &[(String, String)]) {
        for (place, note) in heads {
            let mut fault = |entries, what: String| {
                self.faults.push(EvidenceFault { place: place.clone(), offset: None, entries, what });
            };
            let Some(head) = self.verifiers.iter().find_map(|key| key.open(note)) else {
                fault(None, "not a head of this log, or not signed with its key".into());
                continue;
            };
            if head.size > self.next {
                fault(
                    Some((self.next, head.size - 1)),
                    "entries are missing at the end: the head includes them".into(),
                );
            } else if head.size > 0 && self.ends.get(&head.size) != Some(&(head.root, head.chain)) {
                let what = format!("the first {} entries do not match the head", head.size);
                fault(Some((0, head.size - 1)), what);
            }
        }
    }

    fn fault(&mut self, segment: &Segment, offset: usize, entries: Option<(u64, u64)>, what: String) {
        self.faults.push(EvidenceFault {
            place: segment.name.clone(),
            offset: Some(offset as u64),
            entries,
            what,
        });
    }
}

/// Start of the next valid block.
fn next_block(bytes: &[u8], from: usize) -> Option<usize> {
    (from..bytes.len().saturating_sub(3))
        .filter(|&at| bytes[at..].starts_with(b"CEB1"))
        .find(|&at| Block::read(&bytes[at..]).is_some_and(|block| block.is_sealed))
}
