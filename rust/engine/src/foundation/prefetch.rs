//! Memory prefetch.
//!
//! A look-up that misses every cache stalls for about a hundred instructions. A prefetch does not stall, so the
//! look-ups of a whole block of events overlap.

/// Prefetches the cache line in which `place` begins.
#[inline(always)]
#[allow(clippy::inline_always)] // a call would cost more than the instruction
pub(crate) fn prefetch<T>(place: &T) {
    prefetch_at(std::ptr::from_ref(place));
}

/// Prefetches an address that need not be valid.
#[inline(always)]
#[allow(unsafe_code)]
#[allow(clippy::inline_always)] // a call would cost more than the instruction
pub(crate) fn prefetch_at<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch has no visible effect and faults at no address. SSE, which has the instruction, is part
        // of every x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}
