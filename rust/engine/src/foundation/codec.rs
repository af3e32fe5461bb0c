//! Binary encoding of saved state: fixed-width little-endian numbers, and a length before everything of variable
//! size.

use thiserror::Error;

/// Saved state is truncated or inconsistent; the text tells where.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the saved state is damaged: {0}")]
pub struct Damaged(pub(crate) &'static str);

/// Allocation size. Larger allocations would be returned to the operating system and mapped again, page by page, for
/// every snapshot.
const CHUNK: usize = 1 << 20;

/// Writes state.
#[derive(Debug, Default)]
pub(crate) struct StateWriter {
    full: Vec<Vec<u8>>,
    bytes: Vec<u8>,
}

impl StateWriter {
    /// The encoded bytes in order, in chunks of arbitrary size.
    pub(crate) fn finish(mut self) -> Vec<Vec<u8>> {
        self.full.push(self.bytes);
        self.full
    }

    #[inline]
    pub(crate) fn raw<const N: usize>(&mut self, bytes: [u8; N]) {
        if self.bytes.capacity() - self.bytes.len() < N {
            self.begin_chunk();
        }
        self.bytes.extend_from_slice(&bytes);
    }

    #[cold]
    fn begin_chunk(&mut self) {
        let full = std::mem::replace(&mut self.bytes, Vec::with_capacity(CHUNK));
        self.full.push(full);
    }

    pub(crate) fn flag(&mut self, flag: bool) {
        self.raw([u8::from(flag)]);
    }

    #[inline]
    pub(crate) fn u16(&mut self, number: u16) {
        self.raw(number.to_le_bytes());
    }

    #[inline]
    pub(crate) fn u32(&mut self, number: u32) {
        self.raw(number.to_le_bytes());
    }

    #[inline]
    pub(crate) fn u64(&mut self, number: u64) {
        self.raw(number.to_le_bytes());
    }

    #[inline]
    pub(crate) fn i64(&mut self, number: i64) {
        self.raw(number.to_le_bytes());
    }

    /// Writes a length.
    pub(crate) fn len(&mut self, len: usize) {
        self.u64(len as u64);
    }

    /// Writes a list: its length, then its items.
    pub(crate) fn list<T>(
        &mut self,
        items: impl ExactSizeIterator<Item = T>,
        mut each: impl FnMut(&mut Self, T),
    ) {
        self.len(items.len());
        for item in items {
            each(self, item);
        }
    }

    pub(crate) fn texts(&mut self, texts: &[String]) {
        self.list(texts.iter(), |to, text| to.text(text));
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.len(text.len());
        self.bytes.extend_from_slice(text.as_bytes());
    }
}

/// Reads state.
#[derive(Debug)]
pub(crate) struct StateReader<'a> {
    rest: &'a [u8],
    version: u16,
}

impl<'a> StateReader<'a> {
    /// `version` is the version of the format that the bytes were written in.
    pub(crate) fn new(bytes: &'a [u8], version: u16) -> Self {
        Self { rest: bytes, version }
    }

    pub(crate) fn version(&self) -> u16 {
        self.version
    }

    #[inline]
    pub(crate) fn raw<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Damaged("it is truncated"))?;
        self.rest = rest;
        Ok(*bytes)
    }

    pub(crate) fn flag(&mut self) -> Result<bool, Damaged> {
        Ok(self.raw::<1>()? != [0])
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, Damaged> {
        Ok(u16::from_le_bytes(self.raw()?))
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, Damaged> {
        Ok(u32::from_le_bytes(self.raw()?))
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, Damaged> {
        Ok(u64::from_le_bytes(self.raw()?))
    }

    #[inline]
    pub(crate) fn i64(&mut self) -> Result<i64, Damaged> {
        Ok(i64::from_le_bytes(self.raw()?))
    }

    /// Reads a length of items with at least `least` bytes each, and checks it against the remaining bytes.
    pub(crate) fn len(&mut self, least: usize) -> Result<usize, Damaged> {
        let len = self.u64()?;
        let most = self.rest.len() / least.max(1);
        usize::try_from(len)
            .ok()
            .filter(|&len| len <= most)
            .ok_or(Damaged("a length exceeds the remaining bytes"))
    }

    /// Reads a list whose items have at least `least` bytes each.
    pub(crate) fn list<T, C: FromIterator<T>>(
        &mut self,
        least: usize,
        mut each: impl FnMut(&mut Self) -> Result<T, Damaged>,
    ) -> Result<C, Damaged> {
        (0..self.len(least)?).map(|_| each(self)).collect()
    }

    pub(crate) fn texts(&mut self) -> Result<Vec<String>, Damaged> {
        self.list(8, Self::text)
    }

    pub(crate) fn text(&mut self) -> Result<String, Damaged> {
        let len = self.len(1)?;
        let (text, rest) = self.rest.split_at(len);
        self.rest = rest;
        Ok(std::str::from_utf8(text).map_err(|_| Damaged("a name is not UTF-8"))?.to_owned())
    }

    /// Checks that nothing is left.
    pub(crate) fn end(&self) -> Result<(), Damaged> {
        if self.rest.is_empty() { Ok(()) } else { Err(Damaged("bytes follow its end")) }
    }
}
