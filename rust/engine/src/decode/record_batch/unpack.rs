//! Decompression of batch bodies: gzip, snappy, lz4 and zstd, as Kafka clients write them.

use super::header::Compression;
use std::io::Read;
use std::ops::Range;
use zstd::stream::raw::{Decoder as Zstd, Operation};

/// Maximum decompressed size of a batch: a few kilobytes can claim to contain terabytes.
const MOST_BYTES: usize = 256 << 20;
/// Growth of the buffer if a body does not state its length.
const STEP: usize = 64 << 10;

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
        if self.buffer.len() > 256 * STEP {
            self.buffer = Vec::new();
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    /// Decompresses a body and appends it. After an error the buffer is unchanged.
    pub(super) fn unpack(&mut self, compression: Compression, body: &[u8]) -> Result<Body, String> {
        let start = self.filled;
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
        if self.filled + wanted - start > MOST_BYTES {
            return Err(format!("unpacks to more than {} MiB", MOST_BYTES >> 20));
        }
        if self.buffer.len() < self.filled + wanted {
            self.buffer.resize(self.filled + wanted, 0);
        }
        Ok(&mut self.buffer[self.filled..])
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
