//! Where strings end: the bytes that are a quote, a backslash or a control character, sixteen bytes at a time on x86-64,
//! eight elsewhere.

/// The enders of one text as a bit map, so that finding the next one does not wait for the one before.
#[derive(Debug, Clone, Default)]
pub(super) struct Enders {
    /// A bit for each byte, and a last word of ones behind them.
    words: Vec<u64>,
}

impl Enders {
    /// Looks through a text.
    #[inline]
    pub(super) fn mark(&mut self, text: &[u8]) {
        self.words.clear();
        let (chunks, rest) = text.as_chunks::<64>();
        self.words.extend(chunks.iter().map(word));
        let last = if let Some(last) = text.last_chunk() {
            // Looked at once more with what is before it, which is quicker than to copy it.
            word(last).checked_shr(64 - rest.len() as u32).unwrap_or(0)
        } else {
            let mut last = [b' '; 64];
            last[..rest.len()].copy_from_slice(rest);
            word(&last)
        };
        self.words.extend([last, u64::MAX]);
    }

    /// The first ender at `from` or behind it; some place past the text if there is none. `from` is not past the text.
    #[inline]
    pub(super) fn next(&self, from: usize) -> usize {
        let mut at = from / 64;
        let mut bits = self.words[at] & (u64::MAX << (from % 64));
        while bits == 0 {
            at += 1;
            bits = self.words[at];
        }
        at * 64 + bits.trailing_zeros() as usize
    }
}

/// A bit for each of 64 bytes.
#[inline]
fn word(chunk: &[u8; 64]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        let (parts, _) = chunk.as_chunks::<16>();
        parts.iter().rev().fold(0, |word, part| word << 16 | u64::from(sse2::enders(*part)))
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let (parts, _) = chunk.as_chunks::<8>();
        let bits =
            |part: &[u8; 8]| part.iter().rev().fold(0, |bits, &byte| bits << 1 | u64::from(ends(byte)));
        parts.iter().rev().fold(0, |word, part| word << 8 | bits(part))
    }
}

/// Whether a byte ends a plain run.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn ends(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..0x20)
}

/// The position in `bytes` of the first quote, backslash or control character, or of a place from which the last
/// few bytes have to be looked at one by one.
pub(super) fn plain_run(bytes: &[u8]) -> usize {
    let mut at = 0;
    #[cfg(target_arch = "x86_64")]
    while let Some(chunk) = bytes[at..].first_chunk() {
        let enders = sse2::enders(*chunk);
        if enders != 0 {
            return at + enders.trailing_zeros() as usize;
        }
        at += chunk.len();
    }
    while let Some(chunk) = bytes[at..].first_chunk() {
        let enders = word_enders(u64::from_le_bytes(*chunk));
        if enders != 0 {
            return at + enders.trailing_zeros() as usize / 8;
        }
        at += chunk.len();
    }
    at
}

#[cfg(target_arch = "x86_64")]
mod sse2 {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8,
    };

    /// A bit for each byte that ends a plain run.
    #[inline]
    #[allow(unsafe_code)]
    pub(super) fn enders(chunk: [u8; 16]) -> u32 {
        // SAFETY: SSE2 is part of every x86-64.
        unsafe { compare(chunk) }
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn compare(chunk: [u8; 16]) -> u32 {
        let word = u128::from_le_bytes(chunk);
        let bytes = _mm_set_epi64x((word >> 64) as i64, word as i64);
        let quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
        let backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
        let control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1F)), bytes);
        _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, backslash), control)).cast_unsigned()
    }
}

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Marks (in each byte's top bit) the bytes that end a plain run.
///
/// Classic zero-in-word test (Mycroft 1987; Warren, *Hacker's Delight* 6-1). Borrows can mark a byte
/// wrongly, but only above a right one, and only the lowest mark is used.
#[inline]
fn word_enders(word: u64) -> u64 {
    let quote = word ^ (LOW * u64::from(b'"'));
    let backslash = word ^ (LOW * u64::from(b'\\'));
    let zero_quote = quote.wrapping_sub(LOW) & !quote;
    let zero_backslash = backslash.wrapping_sub(LOW) & !backslash;
    let control = word.wrapping_sub(LOW * 0x20) & !word;
    (zero_quote | zero_backslash | control) & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stops_where_a_byte_by_byte_search_does(mut bytes in prop::collection::vec(0x20_u8.., 0..200),
                                                  enders in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..=0x5C), 0..4)) {
            for (at, ender) in enders {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = ender;
                }
            }
            let first = bytes.iter().position(|&byte| ends(byte)).unwrap_or(bytes.len());
            let found = plain_run(&bytes);
            prop_assert!(found == first || found < first && bytes.len() - found < 8);
            let mut marks = Enders::default();
            marks.mark(&bytes);
            for from in 0..=bytes.len() {
                let next = (from..bytes.len()).find(|&at| ends(bytes[at]));
                let found = marks.next(from);
                prop_assert!(next.map_or(found >= bytes.len(), |next| next == found), "{from}: {found}");
            }
            for chunk in bytes.chunks_exact(8) {
                let marks = word_enders(u64::from_le_bytes(chunk.try_into().unwrap()));
                let first = chunk.iter().position(|&byte| ends(byte)).unwrap_or(8);
                prop_assert_eq!(marks.trailing_zeros() as usize / 8, first);
            }
        }
    }
}
