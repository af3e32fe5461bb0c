//! Keyed fingerprints stand for texts, so that no name is stored twice and none can be aimed at a bucket.
//!
//! A text's fingerprint is its 64-bit SipHash-1-3. The key is secret to a process, so nobody outside can search for two
//! names with one fingerprint. By chance, two of n meet with probability n²/2⁶⁵: 3·10⁻⁸ for a million values in one
//! group, 3·10⁻⁶ for ten million groups.

use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// A fingerprint.
pub(crate) type Fingerprint = u64;

/// Makes fingerprints under one secret key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keyring {
    key: [u8; 16],
    hasher: SipHasher13,
}

impl Keyring {
    pub(crate) fn new(key: [u8; 16]) -> Self {
        Self { key, hasher: SipHasher13::new_with_key(&key) }
    }

    /// The key: whoever has it can aim at buckets.
    pub(crate) fn key(&self) -> [u8; 16] {
        self.key
    }

    /// The fingerprint of one value's text.
    #[inline]
    pub(crate) fn print(&self, text: &[u8]) -> Fingerprint {
        self.hasher.hash(text)
    }

    /// The fingerprint of several values in order. One value is its own fingerprint.
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
