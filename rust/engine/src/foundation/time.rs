//! Event time.

/// Microseconds since 1970-01-01T00:00:00Z.
pub type Micros = i64;

/// Converts a duration of the plan; durations beyond the range of [`Micros`] saturate.
pub(crate) fn micros(millis: u64) -> Micros {
    Micros::try_from(millis).unwrap_or(Micros::MAX).saturating_mul(1000)
}
