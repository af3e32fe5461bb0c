//! The Custodes engine: batches of records in, finding changes out.
//!
//! The folders are layers, named in the order in which an event passes them; each uses only itself and the ones
//! before (`tests/layers.rs`):
//! - `foundation`: time, calendar, watermark, fingerprints, the encoding of saved state;
//! - `plan`: rules and mapping as data;
//! - `decode`: bytes to records (JSON Lines, Kafka record batches) and records to JSON tokens;
//! - `event`: records to events, with mapped and derived fields;
//! - `matching`: conditions of rules over one event;
//! - `window`: counts, distinct counts and aggregates over sliding windows;
//! - `detect`: evaluation of a window's counts, which yields findings;
//! - `keyed`: routing of events to groups, and the windows of each group;
//! - `engine`: batches, threads, shards, snapshots.
//!
//! The crate knows no Python, does no I/O and has no clock: the caller passes the time.
//!
//! ```
//! use custodes_engine::{Engine, Input, Plan};
//! use std::num::NonZeroUsize;
//!
//! let plan = Plan::from_json(r#"{
//!   "mapping": {"time": ["time"], "actor": ["actor"]},
//!   "rules": [{"id": "bulk", "when": {"all": []}, "group_by": ["actor"], "timespan_ms": 60000,
//!              "resolution_ms": 1000, "keep_open_ms": 60000, "holds": {"gte": 2}}]}"#).unwrap();
//! let mut engine = Engine::new(&plan, NonZeroUsize::MIN).unwrap();
//! let text = b"{\"time\":1700000000,\"actor\":\"a\"}\n{\"time\":1700000001,\"actor\":\"a\"}\n";
//! let outcome = engine.process_lines(text, 1, Input::default());
//! assert_eq!(outcome.changes.len(), 1);
//! ```
#![deny(unsafe_code)]

mod decode;
mod detect;
mod engine;
mod event;
mod foundation;
mod keyed;
mod matching;
mod plan;
mod window;

pub use decode::json::{Extractor, Token};
pub use decode::path::Path;
pub use decode::record::{Lines, Record, count_lines};
pub use decode::record_batch::{Aborted, Fetched, FetchedPiece, FramingError, fetched_pieces};
pub use decode::reject::{Reason, Reject};
pub use detect::{Change, ChangeKind, GroupStatus};
pub use engine::{
    Coverage, Dropped, Engine, Evicted, Input, Outcome, READABLE_SNAPSHOT_VERSIONS, RepartitionBatch,
    RepartitionBatchError, RestoreError, RuleStats, SNAPSHOT_VERSION, Stats,
};
pub use event::identity::normal_form;
pub use event::lookup::{Columns, Lookup, TableError, Tables};
pub use event::recording::{FIELDS as HISTORY_FIELDS, Recording, SPELLED as HISTORY_SPELLED, Texts};
pub use event::time_zone::is_time_zone;
pub use event::timestamp::{format_rfc3339, parse_time_number, parse_time_text};
pub use foundation::codec::Damaged;
pub use foundation::eviction::EvictedCounts;
pub use foundation::time::Micros;
pub use foundation::watermark::StreamId;
pub use keyed::OrphanedFinding;
pub use plan::{
    Actions, BaselineOf, BaselinePlan, Bounds, CanonicalAction, Condition, Decimal, Derivation,
    DerivationMethod, Domain, Identities, IdentityForm, LetterCase, Partition, Plan, PlanError,
    PlanErrorKind, Repartition, RulePlan, Separators, Source, Test, TimePart,
};
