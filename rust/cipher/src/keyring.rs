//! Named keys: the first encrypts, all decrypt.

use crate::file::Writer;
use crate::{CHUNK, FileCipher, MOST_HEADER, MOST_NAME, TAG, is_encrypted};
use std::io::{self, Write};
use zeroize::Zeroizing;

/// A key and its name.
#[derive(Clone)]
pub struct Key {
    name: String,
    secret: Zeroizing<[u8; 32]>,
}

impl Key {
    /// `None` if the name is empty or too long.
    pub fn new(name: &str, secret: [u8; 32]) -> Option<Self> {
        let is_name = (1..=MOST_NAME).contains(&name.len());
        is_name.then(|| Self { name: name.to_owned(), secret: Zeroizing::new(secret) })
    }

    /// Name of the key, stored in what it encrypts.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn secret(&self) -> &[u8] {
        &self.secret[..]
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Key").field(&self.name).finish()
    }
}

/// Keys by name. Without keys, nothing is encrypted.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    keys: Vec<Key>,
}

impl Keyring {
    /// The first key is used to encrypt.
    pub fn new(keys: Vec<Key>) -> Self {
        Self { keys }
    }

    /// Key used to encrypt; `None` if nothing is encrypted.
    pub fn current(&self) -> Option<&Key> {
        self.keys.first()
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// Encrypts the bytes; without a key, returns them unchanged.
    ///
    /// # Errors
    /// No randomness is available.
    pub fn encrypt(&self, plain: &[u8]) -> io::Result<Vec<u8>> {
        let Some(key) = self.current() else {
            return Ok(plain.to_vec());
        };
        let room = MOST_HEADER + plain.len() + (plain.len() / CHUNK + 1) * TAG;
        let mut writer = Writer::begin(Vec::with_capacity(room), key)?;
        writer.write_all(plain)?;
        writer.finish()
    }

    /// Decrypts what [`Self::encrypt`] returned; plain bytes are returned unchanged.
    ///
    /// # Errors
    /// `PermissionDenied` if the key is not in the keyring, `InvalidData` if the bytes were changed.
    pub fn decrypt(&self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        if !is_encrypted(bytes) {
            return Ok(bytes.to_vec());
        }
        let cipher = FileCipher::read(bytes, self)?;
        let body = &bytes[cipher.header.len()..];
        let length =
            FileCipher::plain_length(body.len() as u64).ok_or_else(|| crate::damaged("it is cut off"))?;
        let mut plain = Vec::with_capacity(length as usize);
        let count = body.len().div_ceil(CHUNK + TAG);
        for (number, chunk) in body.chunks(CHUNK + TAG).enumerate() {
            plain.extend(cipher.decrypt(number as u32, number + 1 == count, chunk)?);
        }
        Ok(plain)
    }
}
