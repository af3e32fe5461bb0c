//! Verification: whether a log is as it was written, and if not, where.

use crate::block::Block;
use crate::head::{Head, Verifier};
use crate::log::{HEAD, SALT};
use crate::merkle;
pub use crate::walk::Fault;
use crate::walk::{Segment, Walk};
use custodes_cipher::Keyring;
use std::io;
use std::path::Path;

/// What there is in a log, and what is wrong with it.
#[derive(Debug, Default)]
pub struct Report {
    /// The number after the last entry's.
    pub entries: u64,
    /// How many blocks they are in.
    pub blocks: u64,
    /// Runs of entries of which only the hashes are left: the first and the last of each.
    pub gone: Vec<(u64, u64)>,
    /// Everything that is not as it was written; empty where all is.
    pub faults: Vec<Fault>,
    /// The last head in the log.
    pub head: Option<Head>,
    /// Entries that begin as was asked for, without their salts.
    pub found: Vec<(u64, Vec<u8>)>,
}

/// Reads a whole log.
///
/// `heads` are notes that were kept elsewhere, each with the name of where; the one in the folder is always asked. `sought`
/// is how entries begin that are wanted with the report; `keyring` has the keys of those that are encrypted.
///
/// # Errors
/// What the disk refuses.
pub fn verify(
    folder: &Path,
    verifiers: &[Verifier],
    heads: &[(String, String)],
    sought: &[u8],
    keyring: &Keyring,
) -> io::Result<Report> {
    let mut report = Report::default();
    // Asked first: the log may grow meanwhile.
    let head = std::fs::read(folder.join(HEAD));
    let mut walk = Walk::new(verifiers);
    walk.through(folder, |segment, offset, block, faults| {
        report.look_into(segment, offset, block, sought, keyring, faults);
    })?;
    match head {
        Ok(note) => walk.hold_against(&[(HEAD.into(), String::from_utf8_lossy(&note).into_owned())]),
        Err(error) if error.kind() == io::ErrorKind::NotFound => walk.faults.push(Fault {
            place: HEAD.into(),
            offset: None,
            entries: None,
            what: "there is no head: whether entries are missing at the end cannot be told".into(),
        }),
        Err(error) => return Err(error),
    }
    walk.hold_against(heads);
    report.entries = walk.next;
    report.blocks = walk.blocks;
    report.faults = walk.faults;
    report.head = walk.last.map(|(head, _)| head);
    Ok(report)
}

impl Report {
    fn look_into(
        &mut self,
        segment: &Segment,
        offset: usize,
        block: &Block<'_>,
        sought: &[u8],
        keyring: &Keyring,
        faults: &mut Vec<Fault>,
    ) {
        let mut fault = |entries, what: &str| {
            let place = segment.name.clone();
            faults.push(Fault {
                place,
                offset: Some(offset as u64),
                entries: Some(entries),
                what: what.into(),
            });
        };
        let entries = match block.entries(keyring) {
            Ok(entries) => entries,
            Err(error) => {
                fault((block.first, block.end() - 1), &error.to_string());
                return;
            }
        };
        for ((number, leaf), entry) in (block.first..).zip(block.leaves()).zip(entries) {
            match entry {
                None => match self.gone.last_mut() {
                    Some((_, last)) if *last + 1 == number => *last = number,
                    _ => self.gone.push((number, number)),
                },
                Some(entry) if merkle::leaf(&entry) != leaf => {
                    fault((number, number), "the entry was changed");
                }
                Some(entry) => {
                    if let Some(text) = entry.get(SALT..)
                        && !sought.is_empty()
                        && text.starts_with(sought)
                    {
                        self.found.push((number, text.to_vec()));
                    }
                }
            }
        }
    }
}
