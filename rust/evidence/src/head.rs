//! Heads: how long the log was and what its root was, signed.
//!
//! As text a head is a checkpoint as witnesses and transparency logs exchange them (C2SP `tlog-checkpoint` in a
//! `signed-note`), so that others than Custodes can keep and check them.

use crate::merkle::Hash;
use base64::prelude::{BASE64_STANDARD, Engine};
use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use ed25519_dalek::{Signer as _, Verifier as _};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// Ed25519, among the kinds of keys of signed notes.
const ED25519: u8 = 1;

/// What the log was at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// How many entries there were.
    pub size: u64,
    /// The Merkle tree's root over them.
    pub root: Hash,
    /// The hash that ties the blocks together, of the last of them.
    pub chain: Hash,
    /// When, in microseconds since the epoch.
    pub time: i64,
}

impl Head {
    /// What is signed of it: the log's name, the size, the root, and two lines of Custodes' own.
    fn text(&self, name: &str) -> String {
        let time = Timestamp::from_microsecond(self.time).unwrap_or(Timestamp::UNIX_EPOCH);
        let (root, chain) = (BASE64_STANDARD.encode(self.root), BASE64_STANDARD.encode(self.chain));
        format!("{name}\n{}\n{root}\nchain {chain}\ntime {time:.6}\n", self.size)
    }

    fn read(text: &str, name: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut next = || lines.next();
        let hash = |text: &str| BASE64_STANDARD.decode(text).ok()?.try_into().ok();
        if next()? != name {
            return None;
        }
        let head = Self {
            size: next()?.parse().ok()?,
            root: hash(next()?)?,
            chain: hash(next()?.strip_prefix("chain ")?)?,
            time: next()?.strip_prefix("time ")?.parse::<Timestamp>().ok()?.as_microsecond(),
        };
        // There is one way to write it.
        (head.text(name) == text).then_some(head)
    }
}

/// Signs heads of the log of one name.
pub struct Signer {
    name: String,
    key: SigningKey,
}

impl Signer {
    /// `secret` is random. The name has neither spaces nor a plus sign; it is the log's and the key's.
    pub fn new(name: &str, secret: &[u8; 32]) -> Self {
        Self { name: name.to_owned(), key: SigningKey::from_bytes(secret) }
    }

    /// Who checks what this signs.
    pub fn verifier(&self) -> Verifier {
        Verifier { name: self.name.clone(), key: self.key.verifying_key() }
    }

    /// The signature alone.
    pub fn sign(&self, head: &Head) -> [u8; 64] {
        self.key.sign(head.text(&self.name).as_bytes()).to_bytes()
    }
}

/// Checks heads of the log of one name.
#[derive(Debug, Clone)]
pub struct Verifier {
    name: String,
    key: VerifyingKey,
}

impl Verifier {
    /// Reads a key as it is handed around: `name+hash+key`. `None` where it is no such key.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().splitn(3, '+');
        let (name, hash, key) = (parts.next()?, parts.next()?, parts.next()?);
        let key = BASE64_STANDARD.decode(key).ok()?;
        let key = VerifyingKey::from_bytes(key.strip_prefix(&[ED25519])?.try_into().ok()?).ok()?;
        let verifier = Self { name: name.to_owned(), key };
        (u32::from_str_radix(hash, 16).ok()? == u32::from_be_bytes(verifier.key_hash())).then_some(verifier)
    }

    fn key_hash(&self) -> [u8; 4] {
        let hash = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', ED25519])
            .chain_update(self.key.as_bytes())
            .finalize();
        [hash[0], hash[1], hash[2], hash[3]]
    }

    /// Whether a head was signed so.
    pub fn is_signed(&self, head: &Head, signature: &[u8; 64]) -> bool {
        self.key.verify(head.text(&self.name).as_bytes(), &Signature::from_bytes(signature)).is_ok()
    }

    /// A head with its signature, as text.
    pub fn note(&self, head: &Head, signature: &[u8; 64]) -> String {
        let signed = [&self.key_hash()[..], signature].concat();
        format!("{}\n\u{2014} {} {}\n", head.text(&self.name), self.name, BASE64_STANDARD.encode(signed))
    }

    /// The head in a note. `None` where it is none of this log's, or not signed by this key.
    pub fn open(&self, note: &str) -> Option<Head> {
        let (text, signatures) = note.split_once("\n\n")?;
        let text = format!("{text}\n");
        let head = Head::read(&text, &self.name)?;
        let prefix = format!("\u{2014} {} ", self.name);
        signatures.lines().find_map(|line| {
            let signed = BASE64_STANDARD.decode(line.strip_prefix(&prefix)?).ok()?;
            let signature = signed.strip_prefix(&self.key_hash())?.try_into().ok()?;
            self.is_signed(&head, &signature).then(|| head.clone())
        })
    }
}

impl std::fmt::Display for Verifier {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = BASE64_STANDARD.encode([&[ED25519], &self.key.as_bytes()[..]].concat());
        write!(formatter, "{}+{:08x}+{key}", self.name, u32::from_be_bytes(self.key_hash()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head { size: 7, root: [1; 32], chain: [2; 32], time: 1_700_000_000_123_456 }
    }

    #[test]
    fn a_note_is_opened_by_its_own_key_alone() {
        let signer = Signer::new("custodes/test", &[7; 32]);
        let verifier = Verifier::parse(&signer.verifier().to_string()).unwrap();
        let note = verifier.note(&head(), &signer.sign(&head()));
        assert_eq!(verifier.open(&note), Some(head()));
        assert_eq!(Signer::new("custodes/test", &[8; 32]).verifier().open(&note), None);
        assert_eq!(Signer::new("custodes/other", &[7; 32]).verifier().open(&note), None);
    }

    #[test]
    fn a_changed_note_is_no_note() {
        let signer = Signer::new("custodes/test", &[7; 32]);
        let note = signer.verifier().note(&head(), &signer.sign(&head()));
        for at in 0..note.len() {
            let mut changed = note.clone().into_bytes();
            changed[at] ^= 1;
            if let Ok(changed) = String::from_utf8(changed) {
                assert_eq!(signer.verifier().open(&changed), None, "byte {at}");
            }
        }
    }

    #[test]
    fn a_key_with_a_slip_is_refused() {
        let key = Signer::new("custodes/test", &[7; 32]).verifier().to_string();
        assert!(Verifier::parse(&key.replace("test", "tess")).is_none());
        assert!(Verifier::parse("custodes/test").is_none());
    }
}
