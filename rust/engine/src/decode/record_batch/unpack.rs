//! Decompression of batch bodies: gzip, snappy, lz4 and zstd, as Kafka clients write them.

use super::header::Compression;
use std::io::Read;
use std::ops::Range;
use zstd::stream::raw::{Decoder as Zstd, Operation};

/// Maximum decompressed size of a batch: a few kilobytes can contain terabytes.
const MOST_BYTES: usize = 256 << 20;
/// Maximum decompressed size of a batch per record that its header claims: twice the default of `max_record_bytes`.
const MOST_BYTES_OF_RECORD: usize = 32 << 20;
/// No further batch is decompressed into a buffer with this content; it is read first.
const MOST_AT_ONCE: usize = 16 << 20;
/// Growth of the buffer if a body does not state its length.
const STEP: usize = 64 << 10;
/// Growth of a large buffer; doubling would take up to twice the memory.
const LARGE_STEP: usize = 4 << 20;

/// Snappy framing of Kafka's Java client: this, two version numbers, then blocks with a length each.
const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
const XERIAL_HEADER: usize = 16;

/// Location of a batch's records.
#[derive(Debug, Clone)]
pub(super) enum Body {
    /// In the batch itself.
    Plain,
    /// In the buffer of decompressed bytes.
    Unpacked(Range<usize>),
}

/// Buffer of decompressed bodies.
#[derive(Default)]
pub(super) struct Unpacker {
    /// Valid up to `filled`; the rest is zeroed room.
    buffer: Vec<u8>,
    filled: usize,
    /// Largest size of the batch that is decompressed.
    most: usize,
    zstd: Option<Zstd<'static>>,
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacker").field("filled", &self.filled).finish_non_exhaustive()
    }
}

impl Unpacker {
    /// Discards the content. The buffer is kept unless one batch made it far larger than usual.
    pub(super) fn clear(&mut self) {
        self.filled = 0;
        if self.buffer.len() > MOST_AT_ONCE + 2 * LARGE_STEP {
            self.buffer = Vec::new();
        }
    }

    /// Whether the content must be read before another batch is decompressed.
    pub(super) fn is_full(&self) -> bool {
        self.filled >= MOST_AT_ONCE
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    /// Decompresses a body of some records and appends it. After an error the buffer is unchanged.
    pub(super) fn unpack(
        &mut self,
        compression: Compression,
        body: &[u8],
        records: usize,
    ) -> Result<Body, String> {
        let start = self.filled;
        self.most = records.max(1).saturating_mul(MOST_BYTES_OF_RECORD).min(MOST_BYTES);
        let done = match compression {
            Compression::None => return Ok(Body::Plain),
            Compression::Gzip => self.read(flate2::bufread::MultiGzDecoder::new(body)),
            Compression::Lz4 => self.read(lz4_flex::frame::FrameDecoder::new(body)),
            Compression::Snappy => self.snappy(body),
            Compression::Zstd => self.zstd(body),
            Compression::Unknown(number) => Err(format!("unknown compression {number}")),
        };
        match done {
            Ok(()) => Ok(Body::Unpacked(start..self.filled)),
            Err(problem) => {
                self.filled = start;
                Err(format!("{compression:?}: {problem}"))
            }
        }
    }

    /// Returns room for at least `wanted` bytes.
    fn room(&mut self, wanted: usize, start: usize) -> Result<&mut [u8], String> {
        if self.filled + wanted - start > self.most {
            return Err(format!("unpacks to more than {} MiB", self.most >> 20));
        }
        if self.buffer.len() < self.filled + wanted {
            self.grow(self.filled + wanted);
        }
        Ok(&mut self.buffer[self.filled..])
    }

    /// Replaces the buffer by a larger one. A new one comes zeroed from the system.
    fn grow(&mut self, needed: usize) {
        let more = self.buffer.len().clamp(STEP, LARGE_STEP);
        let mut larger = vec![0; needed.max(self.buffer.len() + more)];
        larger[..self.filled].copy_from_slice(&self.buffer[..self.filled]);
        self.buffer = larger;
    }

    fn read(&mut self, mut packed: impl Read) -> Result<(), String> {
        let start = self.filled;
        loop {
            let read = packed.read(self.room(STEP, start)?).map_err(|error| error.to_string())?;
            if read == 0 {
                return Ok(());
            }
            self.filled += read;
        }
    }

    fn zstd(&mut self, body: &[u8]) -> Result<(), String> {
        let start = self.filled;
        let mut decoder = match self.zstd.take() {
            Some(decoder) => decoder,
            None => Zstd::new().map_err(|error| error.to_string())?,
        };
        decoder.reinit().map_err(|error| error.to_string())?;
        let mut read = 0;
        loop {
            let room = self.room(STEP, start)?;
            let status = decoder.run_on_buffers(&body[read..], room).map_err(|error| error.to_string())?;
            read += status.bytes_read;
            self.filled += status.bytes_written;
            if status.remaining == 0 && read == body.len() {
                self.zstd = Some(decoder);
                return Ok(());
            }
            if status.bytes_read == 0 && status.bytes_written == 0 {
                return Err("is truncated".to_owned());
            }
        }
    }

    fn snappy(&mut self, body: &[u8]) -> Result<(), String> {
        if !body.starts_with(XERIAL_MAGIC) {
            return self.snappy_block(body);
        }
        let mut rest = body.get(XERIAL_HEADER..).ok_or("is truncated")?;
        while !rest.is_empty() {
            let (length, blocks) = rest.split_first_chunk().ok_or("is truncated")?;
            let length = u32::from_be_bytes(*length) as usize;
            let (block, after) = blocks.split_at_checked(length).ok_or("is truncated")?;
            self.snappy_block(block)?;
            rest = after;
        }
        Ok(())
    }

    fn snappy_block(&mut self, block: &[u8]) -> Result<(), String> {
        let length = snap::raw::decompress_len(block).map_err(|error| error.to_string())?;
        // One byte of snappy expands to at most 64 bytes; reject larger claims before allocating.
        if length > block.len().saturating_mul(64) {
            return Err("states an impossible length".to_owned());
        }
        let start = self.filled;
        let room = self.room(length, start)?;
        let written = snap::raw::Decoder::new().decompress(block, room).map_err(|error| error.to_string())?;
        self.filled += written;
        Ok(())
    }
}
