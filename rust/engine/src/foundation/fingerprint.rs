//! Keyed fingerprints that represent texts, so that no name is stored twice and no input can aim for hash collisions.
//!
//! A fingerprint is the 64-bit SipHash-1-3 of a text. The key is secret, so an attacker cannot search for two names
//! with the same fingerprint. By chance, two of n collide with probability n²/2⁶⁵: 3·10⁻⁸ for a million values in one
//! group, 3·10⁻⁶ for ten million groups.

use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// A fingerprint.
pub(crate) type Fingerprint = u64;

/// Computes fingerprints under one secret key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fingerprinter {
    key: [u8; 16],
    hasher: SipHasher13,
}

impl Fingerprinter {
    pub(crate) fn new(key: [u8; 16]) -> Self {
        Self { key, hasher: SipHasher13::new_with_key(&key) }
    }

    /// The key. Keep it secret: it allows collisions to be constructed.
    pub(crate) fn key(&self) -> [u8; 16] {
        self.key
    }

    /// Fingerprint of one value's text.
    #[inline]
    pub(crate) fn fingerprint(&self, text: &[u8]) -> Fingerprint {
        self.hasher.hash(text)
    }

    /// Fingerprint of several values in order. A single value keeps its own fingerprint.
    pub(crate) fn combine(&self, parts: &[Fingerprint]) -> Fingerprint {
        if let [one] = parts {
            return *one;
        }
        let mut hasher = self.hasher;
        for &part in parts {
            hasher.write_u64(part);
        }
        hasher.finish()
    }
}
