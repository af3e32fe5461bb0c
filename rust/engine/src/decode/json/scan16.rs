//! Scanning text in chunks of sixteen bytes: finding the end of strings, comparing gaps.

/// Bytes examined in one step.
pub(super) type Chunk16 = [u8; 16];

/// The bytes of a text from `at`, which must not be past its end. Missing bytes are zero, which JSON text never
/// contains.
#[inline]
pub(super) fn chunk16(text: &[u8], at: usize) -> Chunk16 {
    let rest = &text[at..];
    if let Some(chunk16) = rest.first_chunk() {
        return *chunk16;
    }
    if let Some(last) = text.last_chunk() {
        // Shifting the last full chunk is faster than copying.
        let before = size_of::<Chunk16>() - rest.len();
        return u128::from_le_bytes(*last).checked_shr(8 * before as u32).unwrap_or(0).to_le_bytes();
    }
    let mut chunk16 = Chunk16::default();
    chunk16[..rest.len()].copy_from_slice(rest);
    chunk16
}

/// Position of the first quote, backslash or control character from `from` on, or the end. `from` must not be past
/// the end.
#[inline]
pub(super) fn plain_until(text: &[u8], from: usize) -> usize {
    let mut at = from;
    loop {
        // The zeros past the end also end a string.
        let enders = enders(chunk16(text, at));
        if enders != 0 {
            return at + enders.trailing_zeros() as usize;
        }
        at += size_of::<Chunk16>();
    }
}

/// One bit for each byte that ends a plain run.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn enders(chunk16: Chunk16) -> u32 {
    chunk16.iter().rev().fold(0, |bits, &byte| bits << 1 | u32::from(ends(byte)))
}

/// Whether a byte ends a plain run.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn ends(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..0x20)
}

#[cfg(target_arch = "x86_64")]
use sse2::enders;

#[cfg(target_arch = "x86_64")]
mod sse2 {
    use crate::decode::json::scan16::Chunk16;
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8,
    };

    /// One bit for each byte that ends a plain run.
    #[inline]
    #[allow(unsafe_code)]
    pub(super) fn enders(chunk16: Chunk16) -> u32 {
        // SAFETY: SSE2 is part of every x86-64.
        unsafe { compare(chunk16) }
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn compare(chunk16: Chunk16) -> u32 {
        let word = u128::from_le_bytes(chunk16);
        let bytes = _mm_set_epi64x((word >> 64) as i64, word as i64);
        let quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
        let backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
        let control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1F)), bytes);
        _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, backslash), control)).cast_unsigned()
    }
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
            for from in 0..=bytes.len() {
                let next = (from..bytes.len()).find(|&at| ends(bytes[at]));
                prop_assert_eq!(plain_until(&bytes, from), next.unwrap_or(bytes.len()));
                let mut padded = bytes[from..].to_vec();
                padded.resize(padded.len().max(16), 0);
                prop_assert_eq!(&chunk16(&bytes, from)[..], &padded[..16]);
            }
        }
    }
}
