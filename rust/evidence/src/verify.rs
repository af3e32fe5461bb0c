//! Verification: whether a log is unchanged, and where it is not.

use crate::block::Block;
use crate::head::{Head, Verifier};
use crate::log::{HEAD, SALT};
use crate::merkle;
pub use crate::walk::EvidenceFault;
use crate::walk::{LogWalk, Segment};
use custodes_cipher::Keyring;
use std::io;
use std::path::Path;

/// Content of a log, and all faults in it.
#[derive(Debug, Default)]
pub struct Report {
    /// Number of entries, erased ones included.
    pub entries: u64,
    /// Number of blocks.
    pub blocks: u64,
    /// Runs of erased entries (only hashes remain): first and last of each.
    pub gone: Vec<(u64, u64)>,
    /// All deviations; empty if the log is unchanged.
    pub faults: Vec<EvidenceFault>,
    /// The last head in the log.
    pub head: Option<Head>,
    /// Entries that start with the requested bytes, without their salts.
    pub found: Vec<(u64, Vec<u8>)>,
}

/// Reads a whole log.
///
/// `heads` are notes that were stored elsewhere, each with the name of that place; the head in the folder is always
/// checked. `sought` is the start of the entries to return; `keyring` has the keys of encrypted entries.
///
/// # Errors
/// I/O errors.
pub fn verify(
    folder: &Path,
    verifiers: &[Verifier],
    heads: &[(String, String)],
    sought: &[u8],
    keyring: &Keyring,
) -> io::Result<Report> {
    let mut report = Report::default();
    // Read the head first, because the log may grow meanwhile.
    let head = std::fs::read(folder.join(HEAD));
    let mut walk = LogWalk::new(verifiers);
    walk.through(folder, |segment, offset, block, faults| {
        report.look_into(segment, offset, block, sought, keyring, faults);
    })?;
    match head {
        Ok(note) => walk.hold_against(&[(HEAD.into(), String::from_utf8_lossy(&note).into_owned())]),
        Err(error) if error.kind() == io::ErrorKind::NotFound => walk.faults.push(EvidenceFault {
            place: HEAD.into(),
            offset: None,
            entries: None,
            what: "there is no head; entries missing at the end cannot be detected".into(),
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
        faults: &mut Vec<EvidenceFault>,
    ) {
        let mut fault = |entries, what: &str| {
            let place = segment.name.clone();
            faults.push(EvidenceFault {
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
