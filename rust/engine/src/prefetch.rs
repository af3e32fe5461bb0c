//! Asking for memory before it is needed.
//!
//! A look-up that misses every cache waits some hundred instructions' time for memory. A prefetch does not wait,
//! so the look-ups of a whole block of events can be under way at once.

/// Asks for the cache line `place` begins in.
#[inline(always)]
#[allow(clippy::inline_always)] // a call would cost more than the instruction
pub(crate) fn prefetch<T>(place: &T) {
    prefetch_at(std::ptr::from_ref(place));
}

/// The same, of a place where nothing may be yet.
#[inline(always)]
#[allow(unsafe_code)]
#[allow(clippy::inline_always)] // a call would cost more than the instruction
pub(crate) fn prefetch_at<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads and writes nothing the program can see and faults at no address. SSE, which has the
        // instruction, is part of every x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}
