//! Keyed fingerprints stand for texts, so that no name is stored twice and none can be aimed at a bucket.
//!
//! A text's fingerprint is its 128-bit SipHash-1-3. A group is known by the high half of its own, a counted value by
//! the low half. The key is secret to a process, so nobody outside can search for two names with one fingerprint. By
//! chance, two of n meet with probability n²/2⁶⁵: 3·10⁻⁸ for a million values in one group, 3·10⁻⁶ for ten million
//! groups.

use siphasher::sip128::{Hash128, Hasher128, SipHasher13};
use std::hash::Hasher;

/// A 128-bit fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fingerprint {
    pub(crate) high: u64,
    pub(crate) low: u64,
}

/// Makes fingerprints under one secret key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keyring {
    key: [u8; 16],
}

impl Keyring {
    pub(crate) fn new(key: [u8; 16]) -> Self {
        Self { key }
    }

    /// The fingerprint of one value's text.
    #[inline]
    pub(crate) fn print(self, text: &[u8]) -> Fingerprint {
        fingerprint(SipHasher13::new_with_key(&self.key).hash(text))
    }

    /// The fingerprint of several values in order. One value is its own fingerprint.
    pub(crate) fn combine(self, parts: &[Fingerprint]) -> Fingerprint {
        if let [one] = parts {
            return *one;
        }
        let mut hasher = SipHasher13::new_with_key(&self.key);
        for part in parts {
            hasher.write_u64(part.high);
            hasher.write_u64(part.low);
        }
        fingerprint(hasher.finish128())
    }
}

fn fingerprint(hash: Hash128) -> Fingerprint {
    Fingerprint { high: hash.h1, low: hash.h2 }
}
