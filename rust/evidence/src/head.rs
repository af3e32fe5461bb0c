//! Heads: the size and root of the log, signed.
//!
//! As text a head is a checkpoint as exchanged by witnesses and transparency logs (C2SP `tlog-checkpoint` in a
//! `signed-note`), so third parties can store and verify it.

use crate::merkle::Hash;
use base64::prelude::{BASE64_STANDARD, Engine};
use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use ed25519_dalek::{Signer as _, Verifier as _};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// Ed25519 in the list of signed-note key types.
const ED25519: u8 = 1;

/// State of the log at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Number of entries.
    pub size: u64,
    /// Root of the Merkle tree over them.
    pub root: Hash,
    /// Chain hash of the last block.
    pub chain: Hash,
    /// Time, in microseconds since the epoch.
    pub time: i64,
}

impl Head {
    /// The signed text: the log's name, size and root, and two extension lines.
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
        // Accept only the canonical encoding.
        (head.text(name) == text).then_some(head)
    }
}

/// Signs heads of the log with one name.
pub struct Signer {
    name: String,
    key: SigningKey,
}

impl Signer {
    /// `secret` must be random. The name is used for the log and its key and must not contain spaces or a plus sign.
    pub fn new(name: &str, secret: &[u8; 32]) -> Self {
        Self { name: name.to_owned(), key: SigningKey::from_bytes(secret) }
    }

    /// The matching verifier.
    pub fn verifier(&self) -> Verifier {
        Verifier { name: self.name.clone(), key: self.key.verifying_key() }
    }

    /// Returns the bare signature.
    pub fn sign(&self, head: &Head) -> [u8; 64] {
        self.key.sign(head.text(&self.name).as_bytes()).to_bytes()
    }
}

/// Verifies heads of the log with one name.
#[derive(Debug, Clone)]
pub struct Verifier {
    name: String,
    key: VerifyingKey,
}

impl Verifier {
    /// Parses a public key in the form `name+hash+key`. `None` if it is malformed.
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

    /// Whether the signature of a head is valid.
    pub fn is_signed(&self, head: &Head, signature: &[u8; 64]) -> bool {
        self.key.verify(head.text(&self.name).as_bytes(), &Signature::from_bytes(signature)).is_ok()
    }

    /// A head with its signature, as text.
    pub fn note(&self, head: &Head, signature: &[u8; 64]) -> String {
        let signed = [&self.key_hash()[..], signature].concat();
        format!("{}\n\u{2014} {} {}\n", head.text(&self.name), self.name, BASE64_STANDARD.encode(signed))
    }

    /// Reads the head in a note. `None` if it is of another log or not signed with this key.
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
    fn note_opens_with_its_own_key_only() {
        let signer = Signer::new("custodes/test", &[7; 32]);
        let verifier = Verifier::parse(&signer.verifier().to_string()).unwrap();
        let note = verifier.note(&head(), &signer.sign(&head()));
        assert_eq!(verifier.open(&note), Some(head()));
        assert_eq!(Signer::new("custodes/test", &[8; 32]).verifier().open(&note), None);
        assert_eq!(Signer::new("custodes/other", &[7; 32]).verifier().open(&note), None);
    }

    #[test]
    fn changed_note_is_rejected() {
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
    fn malformed_key_is_rejected() {
        let key = Signer::new("custodes/test", &[7; 32]).verifier().to_string();
        assert!(Verifier::parse(&key.replace("test", "tess")).is_none());
        assert!(Verifier::parse("custodes/test").is_none());
    }
}
