//! Unpacking batch bodies: gzip, snappy, lz4 and zstd, as Kafka's clients write them.

use super::Body;
use super::header::Codec;
use std::io::Read;
use zstd::stream::raw::{Decoder as Zstd, Operation};

/// No batch may unpack to more: a few kilobytes can claim to hold terabytes.
const MOST_BYTES: usize = 256 << 20;
/// Room made at a time where a body does not say how long it is.
const STEP: usize = 64 << 10;

/// Java's snappy framing: this, two version numbers, then blocks with a length each.
const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
const XERIAL_HEADER: usize = 16;

/// A buffer of unpacked bodies.
#[derive(Default)]
pub(super) struct Unpacker {
    /// Written up to `filled`; what lies beyond is room already zeroed.
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
    /// Forgets what was unpacked; its room is kept, unless a giant left far more than a run needs.
    pub(super) fn clear(&mut self) {
        self.filled = 0;
        if self.buffer.len() > 256 * STEP {
            self.buffer = Vec::new();
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    /// Unpacks a body behind those already there. An error says what is wrong with it and leaves them alone.
    pub(super) fn unpack(&mut self, codec: Codec, body: &[u8]) -> Result<Body, String> {
        let start = self.filled;
        let done = match codec {
            Codec::None => return Ok(Body::Plain),
            Codec::Gzip => self.read(flate2::bufread::MultiGzDecoder::new(body)),
            Codec::Lz4 => self.read(lz4_flex::frame::FrameDecoder::new(body)),
            Codec::Snappy => self.snappy(body),
            Codec::Zstd => self.zstd(body),
            Codec::Unknown(number) => Err(format!("number {number} is no compression known here")),
        };
        match done {
            Ok(()) => Ok(Body::Unpacked(start..self.filled)),
            Err(problem) => {
                self.filled = start;
                Err(format!("{codec:?}: {problem}"))
            }
        }
    }

    /// At least `wanted` bytes of room.
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
                return Err("is cut off".to_owned());
            }
        }
    }

    fn snappy(&mut self, body: &[u8]) -> Result<(), String> {
        if !body.starts_with(XERIAL_MAGIC) {
            return self.snappy_block(body);
        }
        let mut rest = body.get(XERIAL_HEADER..).ok_or("is cut off")?;
        while !rest.is_empty() {
            let (length, blocks) = rest.split_first_chunk().ok_or("is cut off")?;
            let length = u32::from_be_bytes(*length) as usize;
            let (block, after) = blocks.split_at_checked(length).ok_or("is cut off")?;
            self.snappy_block(block)?;
            rest = after;
        }
        Ok(())
    }

    fn snappy_block(&mut self, block: &[u8]) -> Result<(), String> {
        let length = snap::raw::decompress_len(block).map_err(|error| error.to_string())?;
        // A byte of snappy stands for at most 64 bytes, so a longer claim is no reason to make room.
        if length > block.len().saturating_mul(64) {
            return Err("claims to be longer than it can be".to_owned());
        }
        let start = self.filled;
        let room = self.room(length, start)?;
        let written = snap::raw::Decoder::new().decompress(block, room).map_err(|error| error.to_string())?;
        self.filled += written;
        Ok(())
    }
}
