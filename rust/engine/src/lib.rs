//! The Custodes engine: batches of records in, few findings out.
//!
//! `record` → [`json`] (validate, extract) → [`field`] (resolve by mapping) → [`matcher`] (rule
//! conditions) → [`keyed`] (by group) → [`window`] (counts) → [`detect`] (decisions) → [`finding`]. The crate knows no Python, does no I/O
//! and reads no clock: whoever calls it says what time it is.
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

mod admit;
mod codec;
mod crew;
mod derive;
mod detect;
mod engine;
mod field;
mod finding;
mod fixed;
mod history;
mod json;
mod key;
mod keyed;
mod lane;
mod layout;
mod level;
mod lookup;
mod matcher;
mod path;
mod plan;
mod prefetch;
mod record;
mod record_batch;
mod reject;
mod repartition;
mod shard;
mod shedding;
mod snapshot;
mod time;
mod watermark;
mod window;

pub use codec::Damaged;
pub use derive::{Derivation, Means, TimePart, is_time_zone};
pub use engine::{Engine, Input, Outcome, RuleStats, Shed, Standing, Stats};
pub use finding::{Change, ChangeKind};
pub use history::{FIELDS as HISTORY_FIELDS, Recording, Texts};
pub use json::{Extractor, Token};
pub use keyed::Orphan;
pub use lookup::{Columns, Lookup, TableError, Tables};
pub use path::Path;
pub use plan::{
    BaselineOf, BaselinePlan, Condition, Holds, Plan, PlanError, Repartition, RulePlan, Share, Source, Test,
};
pub use record::{Lines, Record, count_lines};
pub use record_batch::{Aborted, Fetched, FramingError, Piece, pieces};
pub use reject::{Reason, Reject};
pub use repartition::{Parcel, ParcelError};
pub use shedding::Forgotten;
pub use snapshot::{Dropped, RestoreError, VERSION as SNAPSHOT_VERSION};
pub use time::{Micros, format_rfc3339, parse_time_number, parse_time_text};
pub use watermark::StreamId;
