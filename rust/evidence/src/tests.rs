//! Changes that someone with access to the files can make to a log, and power failures.

use crate::block::{Block, Draft};
use crate::log::{Error, HEAD, Log, SALT};
use crate::merkle::{self, Tree};
use crate::walk::{segment_name, segments};
use crate::{Report, Signer, Verifier, verify};
use custodes_cipher::{Key, Keyring};
use proptest::prelude::*;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const NAME: &str = "custodes/test";

fn signer() -> Signer {
    Signer::new(NAME, &[7; 32])
}

fn log_of(folder: &Path, blocks: u64, entries: u64, segment_bytes: u64) -> Log {
    let mut log = Log::open(folder, signer()).unwrap().with_segments_of(segment_bytes);
    for block in 0..blocks {
        let texts: Vec<String> =
            (0..entries).map(|entry| format!("event {entry} of finding {block}")).collect();
        let texts: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
        log.append(key(block), &texts, 1_700_000_000_000_000 + block as i64).unwrap();
    }
    log
}

fn key(number: u64) -> [u8; 16] {
    u128::from(number).to_le_bytes()
}

fn report(folder: &Path) -> Report {
    against(folder, &[])
}

fn against(folder: &Path, heads: &[(String, String)]) -> Report {
    verify(folder, &[signer().verifier()], heads, b"", &Keyring::default()).unwrap()
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    segments(folder).unwrap().into_iter().map(|one| (one.name, fs::read(one.path).unwrap())).collect()
}

/// A copy of a folder, to be changed.
fn copy(folder: &Path) -> TempDir {
    let other = TempDir::new().unwrap();
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), other.path().join(file.file_name())).unwrap();
    }
    other
}

/// Positions of the blocks in a segment.
fn blocks(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let length = Block::read(&bytes[at..]).unwrap().length;
        ranges.push(at..at + length);
        at += length;
    }
    ranges
}

#[track_caller]
fn assert_named(report: &Report, entry: u64) {
    let names = |fault: &crate::verify::EvidenceFault| {
        fault.entries.is_some_and(|(first, last)| first <= entry && entry <= last)
    };
    assert!(report.faults.iter().any(names), "entry {entry} is not named: {:?}", report.faults);
}

#[test]
fn unchanged_log_verifies() {
    let folder = TempDir::new().unwrap();
    let log = log_of(folder.path(), 20, 7, 2000);
    let report = report(folder.path());
    assert_eq!(report.faults, []);
    assert_eq!((report.entries, report.blocks, report.head.unwrap().size), (140, 20, 140));
    assert!(files(folder.path()).len() > 3);
    let texts: Vec<String> = log
        .entries(&key(3))
        .unwrap()
        .iter()
        .map(|(_, entry)| String::from_utf8_lossy(&entry[SALT..]).into())
        .collect();
    assert_eq!(texts, (0..7).map(|entry| format!("event {entry} of finding 3")).collect::<Vec<_>>());
    assert_eq!(log.runs(&key(3)), [(21, 27)]);
}

fn keyring(names: &[&str]) -> Keyring {
    Keyring::new(names.iter().map(|name| Key::new(name, [name.as_bytes()[0]; 32]).unwrap()).collect())
}

#[test]
fn encrypted_log_verifies_with_its_keys_only() {
    let folder = TempDir::new().unwrap();
    for (about, keys) in [(0, &["first"][..]), (1, &["second", "first"]), (2, &[])] {
        let mut log = Log::open(folder.path(), signer()).unwrap().with_keys(keyring(keys));
        log.append(key(about), &[&b"P0042 looked"[..], b"P0042 looked again"], 1_700_000_000_000_000)
            .unwrap();
    }
    let with = |names: &[&str]| {
        verify(folder.path(), &[signer().verifier()], &[], b"P0042", &keyring(names)).unwrap()
    };
    let whole = with(&["second", "first"]);
    assert_eq!((whole.faults, whole.entries, whole.found.len()), (vec![], 6, 6));
    let report = with(&["second"]);
    assert_eq!(report.faults.len(), 1, "{:?}", report.faults);
    assert!(report.faults[0].what.contains("under the key 'first'"), "{}", report.faults[0].what);
    assert_named(&report, 0);
    assert_eq!(report.found.len(), 4);

    // Erased entries are gone under every key, and the log still verifies.
    let mut log = Log::open(folder.path(), signer()).unwrap().with_keys(keyring(&["second", "first"]));
    assert_eq!(log.entries(&key(0)).unwrap().len(), 2);
    log.erase(&[key(0)]).unwrap();
    let after = with(&["second", "first"]);
    assert_eq!((after.faults, after.gone), (vec![], vec![(0, 1)]));
    let read = Log::read(folder.path(), signer().verifier()).unwrap();
    assert_eq!(read.entries(&key(1)).unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    assert_eq!(read.entries(&key(2)).unwrap().len(), 2);
}

#[test]
fn every_bit_counts() {
    let folder = TempDir::new().unwrap();
    log_of(folder.path(), 3, 2, 600);
    for (name, bytes) in files(folder.path()) {
        let path = folder.path().join(&name);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                fs::write(&path, changed).unwrap();
                let report = report(folder.path());
                assert!(
                    report.faults.iter().any(|fault| fault.place == name),
                    "byte {at}, bit {bit} of {name}"
                );
            }
        }
        fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn every_changed_byte_of_a_large_log_is_detected() {
    let folder = TempDir::new().unwrap();
    log_of(folder.path(), 1000, 100, 300_000);
    let files = files(folder.path());
    assert!(files.len() > 5);
    assert_eq!(report(folder.path()).entries, 100_000);
    let total: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    let tries = std::env::var("TAMPERED_BYTES").ok().and_then(|tries| tries.parse().ok()).unwrap_or(40);
    for number in 0..tries {
        // Spread over all of it, by a step that reaches every remainder.
        let mut at = (number * 7_368_787 + 31) % total;
        let (name, bytes) = files
            .iter()
            .find(|(_, bytes)| {
                at < bytes.len() || {
                    at -= bytes.len();
                    false
                }
            })
            .unwrap();
        let path = folder.path().join(name);
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (number % 8);
        fs::write(&path, changed).unwrap();
        let report = report(folder.path());
        let range = blocks(bytes).into_iter().find(|range| range.contains(&at)).unwrap();
        let fault = &report.faults[0];
        assert_eq!((&fault.place, fault.offset), (name, Some(range.start as u64)), "byte {at}");
        fs::write(&path, bytes).unwrap();
    }
    for (number, (name, bytes)) in files.iter().enumerate() {
        let first = Block::read(bytes).unwrap().first;
        let path = folder.path().join(name);
        fs::remove_file(&path).unwrap();
        assert_named(&report(folder.path()), first);
        // The next block is put in its place as well.
        let (_, other) = &files[(number + 1) % files.len()];
        fs::write(&path, other).unwrap();
        assert_named(&report(folder.path()), first);
        for length in [bytes.len() - 1, blocks(bytes).last().unwrap().start, bytes.len() / 3, 1] {
            fs::write(&path, &bytes[..length]).unwrap();
            let last = blocks(bytes).iter().filter(|range| range.end <= length).count() as u64;
            assert_named(&report(folder.path()), first + last * 100);
        }
        fs::write(&path, bytes).unwrap();
    }
    assert_eq!(report(folder.path()).faults, []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn removed_repeated_and_swapped_blocks_are_reported(
        one in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(), what in 0..3,
    ) {
        let folder = TempDir::new().unwrap();
        log_of(folder.path(), 12, 3, 1 << 30);
        let (name, bytes) = files(folder.path()).remove(0);
        let mut pieces: Vec<&[u8]> = blocks(&bytes).into_iter().map(|range| &bytes[range]).collect();
        let (one, other) = (one.index(12), other.index(12));
        match what {
            0 => { pieces.remove(one); }
            1 => pieces.insert(other, pieces[one]),
            _ => pieces.swap(one, other),
        }
        fs::write(folder.path().join(&name), pieces.concat()).unwrap();
        let report = report(folder.path());
        if what == 2 && one == other {
            prop_assert_eq!(report.faults, []);
        } else {
            // After two blocks changed places, the earlier one is reported missing.
            assert_named(&report, if what == 2 { one.min(other) } else { one } as u64 * 3);
        }
    }
}

/// The last block of a log, written again with another entry: all hashes are right, and it is signed by `signer`.
fn forged(folder: &Path, signer: &Signer) -> u64 {
    let (name, bytes) = files(folder).pop().unwrap();
    let mut tree = Tree::default();
    let mut at = 0;
    for range in blocks(&bytes) {
        let block = Block::read(&bytes[range.clone()]).unwrap();
        if range.end < bytes.len() {
            block.leaves().for_each(|leaf| tree.push(leaf));
            continue;
        }
        at = block.first;
        let draft = Draft { first: block.first, key: block.key, time: block.time, previous: block.previous };
        let entries: Vec<Vec<u8>> = block.leaves().map(|_| b"nothing happened".to_vec()).collect();
        let (forged, head, signature) =
            draft.write(&entries, &mut tree, &Keyring::default(), |head| signer.sign(head)).unwrap();
        fs::write(folder.join(&name), [&bytes[..range.start], &forged].concat()).unwrap();
        fs::write(folder.join(HEAD), signer.verifier().note(&head, &signature)).unwrap();
    }
    at
}

#[test]
fn without_the_key_no_head_can_be_forged() {
    let folder = TempDir::new().unwrap();
    log_of(folder.path(), 5, 4, 1 << 30);
    let at = forged(folder.path(), &Signer::new(NAME, &[8; 32]));
    assert_named(&report(folder.path()), at);
}

#[test]
fn with_the_key_a_stored_head_still_detects_changes() {
    let folder = TempDir::new().unwrap();
    let log = log_of(folder.path(), 5, 4, 1 << 30);
    let kept = [("the witness".to_owned(), log.note().unwrap().to_owned())];
    assert_eq!(against(folder.path(), &kept).faults, []);
    let forked = copy(folder.path());
    let at = forged(forked.path(), &signer());
    assert_eq!(report(forked.path()).faults, []);
    assert_named(&against(forked.path(), &kept), at);
    // Nor may it return to an earlier state, whose head was valid once.
    let earlier = TempDir::new().unwrap();
    log_of(earlier.path(), 3, 4, 1 << 30);
    assert_named(&against(earlier.path(), &kept), 12);
}

#[test]
fn removed_head_is_reported() {
    let folder = TempDir::new().unwrap();
    log_of(folder.path(), 2, 1, 1 << 30);
    fs::remove_file(folder.path().join(HEAD)).unwrap();
    assert_eq!(report(folder.path()).faults[0].place, HEAD);
    assert!(Log::open(folder.path(), signer()).is_err());
}

#[test]
fn interrupted_write_is_removed() {
    let folder = TempDir::new().unwrap();
    let mut log = log_of(folder.path(), 3, 2, 1 << 30);
    let before = copy(folder.path());
    log.append(key(9), &[b"the last"], 0).unwrap();
    let (name, bytes) = files(folder.path()).remove(0);
    let start = blocks(&bytes).pop().unwrap().start;
    for length in start..=bytes.len() {
        let cut = copy(before.path());
        fs::write(cut.path().join(&name), &bytes[..length]).unwrap();
        let mut log = Log::open(cut.path(), signer()).unwrap();
        assert_eq!(log.size(), if length == bytes.len() { 7 } else { 6 });
        log.append(key(10), &[b"and on"], 0).unwrap();
        assert_eq!(report(cut.path()).faults, [], "cut at {length}");
    }
    // A reader does not remove it: the writer may still be writing.
    fs::write(folder.path().join(&name), &bytes[..bytes.len() - 1]).unwrap();
    fs::write(folder.path().join(HEAD), fs::read(before.path().join(HEAD)).unwrap()).unwrap();
    let mut reading = Log::read(folder.path(), signer().verifier()).unwrap();
    assert_eq!((reading.size(), reading.entries(&key(1)).unwrap().len()), (6, 2));
    assert!(reading.append(key(1), &[b"more"], 0).is_err());
    assert_eq!(fs::read(folder.path().join(&name)).unwrap().len(), bytes.len() - 1);
    // Entries covered by a head are not removed.
    fs::write(folder.path().join(HEAD), log.note().unwrap()).unwrap();
    fs::write(folder.path().join(&name), &bytes[..start]).unwrap();
    assert!(matches!(Log::open(folder.path(), signer()), Err(Error::Damaged(_))));
}

#[test]
fn erased_entries_leave_their_hashes() {
    let folder = TempDir::new().unwrap();
    let mut log = log_of(folder.path(), 10, 5, 1000);
    log.erase(&[key(2), key(7)]).unwrap();
    let report = report(folder.path());
    assert_eq!(report.faults, []);
    assert_eq!(report.gone, [(10, 14), (35, 39)]);
    assert!(log.entries(&key(2)).unwrap().is_empty());
    let all: Vec<u8> = files(folder.path()).into_iter().flat_map(|(_, bytes)| bytes).collect();
    assert_eq!(all.windows(4).filter(|bytes| bytes == b"CEB1").count(), 10);
    // The log can be continued, reopened or not, and the rest can be proven.
    log.append(key(11), &[b"more"], 0).unwrap();
    let log = Log::open(folder.path(), signer()).unwrap();
    let root =
        Verifier::parse(&signer().verifier().to_string()).unwrap().open(log.note().unwrap()).unwrap().root;
    let kept = log.entries(&key(3)).unwrap();
    let paths = log.proofs(&kept.iter().map(|(number, _)| *number).collect::<Vec<_>>()).unwrap();
    for ((number, entry), path) in kept.iter().zip(&paths) {
        assert!(merkle::is_included(merkle::leaf(entry), *number, path, log.size(), &root));
    }
    assert_eq!(kept.len(), 5);
}

#[test]
fn segments_are_named_by_their_first_entry() {
    let folder = TempDir::new().unwrap();
    log_of(folder.path(), 10, 5, 1000);
    for (name, bytes) in files(folder.path()) {
        assert_eq!(name, segment_name(Block::read(&bytes).unwrap().first));
    }
}
