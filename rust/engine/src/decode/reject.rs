//! Why a record was not counted. Each reason is a metric label and a line in the reference pages.

/// The closed set of reasons. Its names are a contract: `custodes_events_rejected_total{reason}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Reason {
    /// No bytes, or a Kafka tombstone.
    Empty,
    /// Longer than the configured limit.
    TooLarge,
    /// Not UTF-8.
    NotUtf8,
    /// Not JSON, truncated JSON, or text after the JSON.
    BadJson,
    /// JSON nested deeper than [`crate::decode::json::MAX_DEPTH`].
    TooDeep,
    /// JSON, but not an object.
    NotAnObject,
    /// No value under the time's path.
    MissingTime,
    /// A time that is neither RFC 3339 with an offset nor an epoch number.
    BadTime,
    /// Before the earliest accepted time: a clock that was never set.
    TimeTooOld,
    /// Further ahead of the clock than allowed: it would close every window.
    TimeInFuture,
    /// No value under the actor's path.
    MissingActor,
    /// A value of a type its field cannot have.
    WrongType,
    /// A Kafka record batch that fails its checksum, or that cannot be unpacked or read. Counts once a batch.
    CorruptBatch,
}

impl Reason {
    /// Every reason, in the order of their discriminants.
    pub const ALL: [Self; 13] = [
        Self::Empty,
        Self::TooLarge,
        Self::NotUtf8,
        Self::BadJson,
        Self::TooDeep,
        Self::NotAnObject,
        Self::MissingTime,
        Self::BadTime,
        Self::TimeTooOld,
        Self::TimeInFuture,
        Self::MissingActor,
        Self::WrongType,
        Self::CorruptBatch,
    ];

    /// The label value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLarge => "too_large",
            Self::NotUtf8 => "not_utf8",
            Self::BadJson => "bad_json",
            Self::TooDeep => "too_deep",
            Self::NotAnObject => "not_an_object",
            Self::MissingTime => "missing_time",
            Self::BadTime => "bad_time",
            Self::TimeTooOld => "time_too_old",
            Self::TimeInFuture => "time_in_future",
            Self::MissingActor => "missing_actor",
            Self::WrongType => "wrong_type",
            Self::CorruptBatch => "corrupt_batch",
        }
    }
}

/// A record that was not counted, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The record's place in its stream: a Kafka offset or a line number.
    pub position: u64,
    /// Why.
    pub reason: Reason,
    /// Details for a person; never the record's own content beyond a type or a byte position.
    pub detail: String,
    /// The record as it came, so that it can be kept; of a corrupt batch, all of it.
    pub value: Box<[u8]>,
}
