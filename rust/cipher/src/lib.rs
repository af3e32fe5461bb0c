//! Encryption at rest.
//!
//! Bytes are encrypted in chunks of 64 KiB, so that a file can be written as a stream and read at any position:
//!
//! ```text
//! "CUSTCRPT" | version u8 | length of name u8 | name of the key | salt 32 | chunks
//! ```
//! Each file has its own key: HKDF-SHA-256 of the named key and the salt. Chunks are encrypted with AES-256-GCM. The
//! nonce consists of the chunk's number and whether it is the last; the header is associated data. This is the STREAM
//! construction of Hoang, Reyhanitabar, Rogaway and Vizár (CRYPTO 2015). A chunk that was changed, moved, taken from
//! another file or truncated is detected when it is read.
#![deny(unsafe_code)]

mod file;
mod keyring;

pub use file::{EncryptedFile, Output, StoredInput, Writer};
pub use keyring::{Key, Keyring};

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use hkdf::Hkdf;
use sha2::Sha256;
use std::io;
use zeroize::Zeroizing;

const MAGIC: &[u8; 8] = b"CUSTCRPT";
const VERSION: u8 = 1;
const SALT: usize = 32;
const CHUNK: usize = 1 << 16;
const TAG: usize = 16;
/// Maximum length of a key's name, in bytes.
pub const MOST_NAME: usize = 64;
/// Maximum length of a header.
const MOST_HEADER: usize = MAGIC.len() + 2 + MOST_NAME + SALT;

/// Whether the bytes start with the magic number of encrypted content.
pub fn is_encrypted(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// The cipher of one file, bound to its header.
struct FileCipher {
    cipher: Aes256Gcm,
    header: Vec<u8>,
}

impl FileCipher {
    /// Cipher of a new file.
    fn begin(key: &Key) -> io::Result<Self> {
        let mut header = Vec::with_capacity(MOST_HEADER);
        header.extend(MAGIC);
        header.push(VERSION);
        header.push(key.name().len() as u8);
        header.extend(key.name().as_bytes());
        let mut salt = [0; SALT];
        getrandom::fill(&mut salt).map_err(io::Error::from)?;
        header.extend(salt);
        Self::of(key, header)
    }

    /// Cipher of the file with this beginning: at least [`MOST_HEADER`] bytes, or the whole file.
    fn read(beginning: &[u8], keyring: &Keyring) -> io::Result<Self> {
        let cut_short = || damaged("the encryption header is truncated");
        let mut rest = beginning.strip_prefix(MAGIC).ok_or_else(|| damaged("it is not encrypted"))?;
        let [version, length] = *rest.first_chunk::<2>().ok_or_else(cut_short)?;
        if version != VERSION {
            return Err(damaged("it is encrypted with an unknown version"));
        }
        rest = &rest[2..];
        let name = rest.get(..usize::from(length)).ok_or_else(cut_short)?;
        let header = beginning.get(..MAGIC.len() + 2 + name.len() + SALT).ok_or_else(cut_short)?;
        let name = str::from_utf8(name).map_err(|_| damaged("the name of its key is not UTF-8"))?;
        let key = keyring.named(name).ok_or_else(|| {
            let why = format!("it is encrypted under the key '{name}', which is not configured");
            io::Error::new(io::ErrorKind::PermissionDenied, why)
        })?;
        Self::of(key, header.to_vec())
    }

    fn of(key: &Key, header: Vec<u8>) -> io::Result<Self> {
        let salt = &header[header.len() - SALT..];
        let mut derived = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(Some(salt), key.secret())
            .expand(b"custodes file 1", &mut derived[..])
            .map_err(|_| damaged("no key can be derived"))?;
        let cipher = Aes256Gcm::new_from_slice(&derived[..]).map_err(|_| damaged("no key can be derived"))?;
        Ok(Self { cipher, header })
    }

    fn encrypt(&self, number: u32, is_last: bool, chunk: &[u8]) -> io::Result<Vec<u8>> {
        let payload = Payload { msg: chunk, aad: &self.header };
        self.cipher
            .encrypt(&nonce(number, is_last), payload)
            .map_err(|_| io::Error::other("a chunk cannot be encrypted"))
    }

    fn decrypt(&self, number: u32, is_last: bool, chunk: &[u8]) -> io::Result<Vec<u8>> {
        let payload = Payload { msg: chunk, aad: &self.header };
        self.cipher
            .decrypt(&nonce(number, is_last), payload)
            .map_err(|_| damaged(&format!("chunk {number} was changed, or was encrypted with another key")))
    }

    /// Plain length of the bytes after the header. `None` if no file has that length.
    fn plain_length(chunks: u64) -> Option<u64> {
        let (whole, rest) = (chunks / (CHUNK + TAG) as u64, chunks % (CHUNK + TAG) as u64);
        match rest {
            0 if whole > 0 => Some(whole * CHUNK as u64),
            rest if rest > TAG as u64 || (rest == TAG as u64 && whole == 0) => {
                Some(whole * CHUNK as u64 + rest - TAG as u64)
            }
            _ => None,
        }
    }
}

fn nonce(number: u32, is_last: bool) -> Nonce<aes_gcm::aead::consts::U12> {
    let mut nonce = [0; 12];
    nonce[7..11].copy_from_slice(&number.to_be_bytes());
    nonce[11] = u8::from(is_last);
    nonce.into()
}

fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests;
