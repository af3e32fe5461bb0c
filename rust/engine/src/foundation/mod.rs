//! Lowest layer: types and containers that every other layer uses.

pub(crate) mod calendar;
pub(crate) mod codec;
pub(crate) mod eviction;
pub(crate) mod fingerprint;
pub(crate) mod group_name;
pub(crate) mod ordered;
pub(crate) mod partition;
pub(crate) mod prefetch;
pub(crate) mod time;
pub(crate) mod watermark;
