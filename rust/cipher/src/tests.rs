#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;
use std::fs::File;
use std::io::Write;

fn key(name: &str) -> Key {
    Key::new(name, [name.as_bytes()[0]; 32]).unwrap()
}

fn keyring(names: &[&str]) -> Keyring {
    Keyring::new(names.iter().map(|name| key(name)).collect())
}

fn text(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251) as u8).collect()
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Lengths close to chunk boundaries.
const LENGTHS: [usize; 8] = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 77];

#[test]
fn encrypted_content_is_readable_both_ways() {
    for length in LENGTHS {
        let plain = text(length);
        let encrypted = keyring(&["a"]).encrypt(&plain).unwrap();
        assert!(is_encrypted(&encrypted));
        assert_eq!(keyring(&["b", "a"]).decrypt(&encrypted).unwrap(), plain);
        let file = EncryptedFile::open(file_of(&encrypted), &keyring(&["b", "a"])).unwrap();
        assert_eq!(file.len(), length as u64);
        assert_eq!(file.read_at(0, usize::MAX).unwrap(), plain);
    }
}

#[test]
fn without_a_key_bytes_are_unchanged() {
    let none = Keyring::default();
    assert_eq!(none.encrypt(b"plain").unwrap(), b"plain");
    assert_eq!(keyring(&["a"]).decrypt(b"plain").unwrap(), b"plain");
    let encrypted = keyring(&["a"]).encrypt(b"plain").unwrap();
    assert_eq!(none.decrypt(&encrypted).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    assert!(none.decrypt(&encrypted).unwrap_err().to_string().contains("the key 'a'"));
}

#[test]
fn equal_bytes_encrypt_differently() {
    let keys = keyring(&["a"]);
    assert_ne!(keys.encrypt(b"P0042").unwrap(), keys.encrypt(b"P0042").unwrap());
}

#[test]
fn another_secret_with_the_same_name_decrypts_nothing() {
    let encrypted = keyring(&["a"]).encrypt(b"P0042").unwrap();
    let other = Keyring::new(vec![Key::new("a", [9; 32]).unwrap()]);
    assert_eq!(other.decrypt(&encrypted).unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[test]
fn every_changed_bit_is_found() {
    let encrypted = keyring(&["a"]).encrypt(&text(300)).unwrap();
    for at in 0..encrypted.len() {
        for bit in 0..8 {
            let mut changed = encrypted.clone();
            changed[at] ^= 1 << bit;
            // Content whose magic number was changed is read as plain bytes.
            if is_encrypted(&changed) {
                assert!(keyring(&["a"]).decrypt(&changed).is_err(), "byte {at}, bit {bit}");
                let opened = EncryptedFile::open(file_of(&changed), &keyring(&["a"]));
                assert!(opened.and_then(|file| file.read_at(0, 300)).is_err());
            }
        }
    }
}

#[test]
fn truncated_swapped_and_foreign_chunks_are_detected() {
    let keys = keyring(&["a"]);
    let encrypted = keys.encrypt(&text(3 * CHUNK + 5)).unwrap();
    let header = encrypted.len() - (3 * (CHUNK + TAG) + 5 + TAG);
    for length in
        [0, 5, header - 1, header, header + TAG - 1, header + CHUNK + TAG, header + 2 * (CHUNK + TAG)]
    {
        let cut = &encrypted[..length];
        assert!(length < 8 || keys.decrypt(cut).is_err(), "{length}");
        let opened = EncryptedFile::open(file_of(cut), &keys);
        assert!(opened.and_then(|file| file.read_at(file.len().saturating_sub(1), 1)).is_err(), "{length}");
    }
    let (first, second) = (header..header + CHUNK + TAG, header + CHUNK + TAG..header + 2 * (CHUNK + TAG));
    let mut swapped = encrypted.clone();
    swapped[first.clone()].copy_from_slice(&encrypted[second.clone()]);
    swapped[second].copy_from_slice(&encrypted[first.clone()]);
    assert!(keys.decrypt(&swapped).is_err());
    let other = keys.encrypt(&text(3 * CHUNK + 5)).unwrap();
    let mut grafted = encrypted.clone();
    grafted[first.clone()].copy_from_slice(&other[first]);
    assert!(keys.decrypt(&grafted).is_err());
}

#[test]
fn key_name_has_1_to_64_bytes() {
    assert!(Key::new("", [0; 32]).is_none());
    assert!(Key::new(&"n".repeat(MOST_NAME + 1), [0; 32]).is_none());
    let longest = Keyring::new(vec![Key::new(&"n".repeat(MOST_NAME), [0; 32]).unwrap()]);
    assert_eq!(longest.decrypt(&longest.encrypt(b"x").unwrap()).unwrap(), b"x");
    assert_eq!(format!("{:?}", key("a")), "Key(\"a\")", "the secret is not shown");
}

proptest! {
    #[test]
    fn any_range_reads_as_written(
        length in 0..3 * CHUNK, pieces in prop::collection::vec(1..CHUNK + 2, 1..9),
        stretches in prop::collection::vec((0..3 * CHUNK as u64 + 9, 0..2 * CHUNK), 1..9),
    ) {
        let plain = text(length);
        let mut writer = Writer::begin(Vec::new(), &key("a")).unwrap();
        let mut rest = &plain[..];
        for piece in pieces.iter().cycle() {
            let (now, later) = rest.split_at((*piece).min(rest.len()));
            writer.write_all(now).unwrap();
            rest = later;
            if rest.is_empty() { break }
        }
        let file = EncryptedFile::open(file_of(&writer.finish().unwrap()), &keyring(&["a"])).unwrap();
        for (offset, count) in stretches {
            let begin = (offset as usize).min(length);
            let end = (offset as usize + count).min(length);
            prop_assert_eq!(file.read_at(offset, count).unwrap(), &plain[begin..end.max(begin)]);
        }
    }

    #[test]
    fn no_bytes_are_a_reason_to_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), is_marked in any::<bool>()) {
        let bytes = if is_marked { [MAGIC, &bytes[..]].concat() } else { bytes };
        let _ = keyring(&["a"]).decrypt(&bytes);
        let _ = EncryptedFile::open(file_of(&bytes), &keyring(&["a"])).and_then(|file| file.read_at(0, 500));
    }
}
