//! Bytes to records (JSON Lines, Kafka record batches), and records to JSON tokens.

pub(crate) mod json;
pub(crate) mod path;
pub(crate) mod record;
pub(crate) mod record_batch;
pub(crate) mod reject;
