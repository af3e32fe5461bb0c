//! Encrypted files: written as a stream, read at any position.

use crate::{CHUNK, FileCipher, Key, Keyring, MAGIC, MOST_HEADER, TAG, damaged, is_encrypted};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;

/// Encrypting writer. The file is readable only after [`Self::finish`].
pub struct Writer<W: Write> {
    out: W,
    cipher: FileCipher,
    number: u32,
    /// Bytes of the current chunk, held back because it may be the last.
    waiting: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// `out` fails, or no randomness is available.
    pub fn begin(mut out: W, key: &Key) -> io::Result<Self> {
        let cipher = FileCipher::begin(key)?;
        out.write_all(&cipher.header)?;
        Ok(Self { out, cipher, number: 0, waiting: Vec::with_capacity(CHUNK) })
    }

    /// Writes the last chunk and returns the output.
    ///
    /// # Errors
    /// The output fails.
    pub fn finish(mut self) -> io::Result<W> {
        self.put(true)?;
        Ok(self.out)
    }

    fn put(&mut self, is_last: bool) -> io::Result<()> {
        let chunk = self.cipher.encrypt(self.number, is_last, &self.waiting)?;
        self.number = self
            .number
            .checked_add(1)
            .ok_or_else(|| io::Error::other("the file is too long to be encrypted"))?;
        self.waiting.clear();
        self.out.write_all(&chunk)
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.waiting.len() == CHUNK {
            self.put(false)?;
        }
        let taken = bytes.len().min(CHUNK - self.waiting.len());
        self.waiting.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    /// Passes on complete chunks; an incomplete chunk is held back.
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A file written by a [`Writer`], open for reading from any thread.
pub struct EncryptedFile {
    file: File,
    cipher: FileCipher,
    length: u64,
    /// The last chunk read, with its number; the next read is often in the same chunk.
    last: Mutex<Option<(u32, Vec<u8>)>>,
}

impl EncryptedFile {
    /// Reads the header.
    ///
    /// # Errors
    /// `PermissionDenied` if its key is not in the keyring, `InvalidData` if it is not such a file or is truncated.
    pub fn open(file: File, keyring: &Keyring) -> io::Result<Self> {
        let on_disk = file.metadata()?.len();
        let mut beginning = vec![0; MOST_HEADER.min(on_disk as usize)];
        file.read_exact_at(&mut beginning, 0)?;
        let cipher = FileCipher::read(&beginning, keyring)?;
        let length = FileCipher::plain_length(on_disk - cipher.header.len() as u64)
            .filter(|length| u32::try_from(length / CHUNK as u64).is_ok())
            .ok_or_else(|| damaged("it is cut off"))?;
        Ok(Self { file, cipher, length, last: Mutex::new(None) })
    }

    /// Length of the plain content, in bytes.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether it has no content.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Reads up to `count` bytes from an offset; fewer at the end.
    ///
    /// # Errors
    /// I/O errors, and `InvalidData` if the content was changed.
    pub fn read_at(&self, offset: u64, count: usize) -> io::Result<Vec<u8>> {
        let end = offset.saturating_add(count as u64).min(self.length);
        let mut read = Vec::with_capacity(end.saturating_sub(offset) as usize);
        let mut at = offset;
        while at < end {
            let (number, within) = ((at / CHUNK as u64) as u32, (at % CHUNK as u64) as usize);
            let wanted = (end - at) as usize;
            self.with_chunk(number, |chunk| {
                let until = (within + wanted).min(chunk.len());
                read.extend_from_slice(&chunk[within..until]);
            })?;
            at = offset + read.len() as u64;
        }
        Ok(read)
    }

    fn with_chunk(&self, number: u32, take: impl FnOnce(&[u8])) -> io::Result<()> {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if last.as_ref().is_none_or(|(known, _)| *known != number) {
            *last = Some((number, self.chunk(number)?));
        }
        if let Some((_, chunk)) = last.as_ref() {
            take(chunk);
        }
        Ok(())
    }

    fn chunk(&self, number: u32) -> io::Result<Vec<u8>> {
        let begin = u64::from(number) * CHUNK as u64;
        let length = (self.length - begin).min(CHUNK as u64) as usize;
        let is_last = begin + length as u64 == self.length;
        let mut bytes = vec![0; length + TAG];
        let offset = self.cipher.header.len() as u64 + u64::from(number) * (CHUNK + TAG) as u64;
        self.file.read_exact_at(&mut bytes, offset)?;
        self.cipher.decrypt(number, is_last, &bytes)
    }
}

/// Output that is encrypted if there is a key.
pub enum Output<W: Write> {
    /// Not encrypted.
    Plain(W),
    /// Encrypted.
    Encrypted(Box<Writer<W>>),
}

impl<W: Write> Output<W> {
    /// Starts to write.
    ///
    /// # Errors
    /// As for [`Writer::begin`].
    pub fn begin(out: W, keyring: &Keyring) -> io::Result<Self> {
        Ok(match keyring.current() {
            Some(key) => Self::Encrypted(Box::new(Writer::begin(out, key)?)),
            None => Self::Plain(out),
        })
    }

    /// Finishes and returns the output.
    ///
    /// # Errors
    /// The output fails.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(out) => Ok(out),
            Self::Encrypted(writer) => writer.finish(),
        }
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Encrypted(writer) => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Encrypted(writer) => writer.flush(),
        }
    }
}

/// A file to be read at any position, encrypted or not.
pub enum StoredInput {
    /// Not encrypted.
    Plain(File),
    /// Encrypted.
    Encrypted(Box<EncryptedFile>),
}

impl StoredInput {
    /// Opens a file.
    ///
    /// # Errors
    /// I/O errors, and those of [`EncryptedFile::open`].
    pub fn open(path: &Path, keyring: &Keyring) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut beginning = [0; MAGIC.len()];
        let is_marked = match file.read_exact_at(&mut beginning, 0) {
            Ok(()) => is_encrypted(&beginning),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
            Err(error) => return Err(error),
        };
        Ok(if is_marked {
            Self::Encrypted(Box::new(EncryptedFile::open(file, keyring)?))
        } else {
            Self::Plain(file)
        })
    }

    /// Length of the plain content, in bytes.
    ///
    /// # Errors
    /// I/O errors.
    pub fn len(&self) -> io::Result<u64> {
        match self {
            Self::Plain(file) => Ok(file.metadata()?.len()),
            Self::Encrypted(file) => Ok(file.len()),
        }
    }

    /// Whether it has no content.
    ///
    /// # Errors
    /// I/O errors.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads up to `count` bytes from an offset; fewer at the end.
    ///
    /// # Errors
    /// I/O errors, and those of [`EncryptedFile::read_at`].
    pub fn read_at(&self, offset: u64, count: usize) -> io::Result<Vec<u8>> {
        match self {
            Self::Plain(file) => {
                let left = file.metadata()?.len().saturating_sub(offset);
                let mut read = vec![0; (count as u64).min(left) as usize];
                file.read_exact_at(&mut read, offset)?;
                Ok(read)
            }
            Self::Encrypted(file) => file.read_at(offset, count),
        }
    }
}
