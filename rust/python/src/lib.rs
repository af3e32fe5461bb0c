//! `custodes._core`: the engine as seen from Python. The binding only translates types.
//!
//! One call processes one batch. The GIL is released while the engine works, in [`engine::Engine::run`] only. Results are
//! small: changed findings, rejected records, counters.

mod engine;
mod errors;
mod evidence;
mod history;
mod keyring;
mod outcome;
mod restore;
mod tables;

use pyo3::prelude::*;

/// Windows are many small growing lists and a few large tables; `custodes/__init__.py` has the allocator's settings.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[pymodule]
mod _core {
    #[pymodule_export]
    use crate::engine::{Engine, count_lines, fetched_pieces};
    #[pymodule_export]
    use crate::errors::{PlanError, RestoreError, TableError};
    #[pymodule_export]
    use crate::evidence::{
        EvidenceDamagedError, EvidenceFault, EvidenceLog, EvidenceReport, is_in_log, open_head,
        verify_evidence,
    };
    #[pymodule_export]
    use crate::history::{Recording, encode_history, merge_history};
    #[pymodule_export]
    use crate::keyring::{Keyring, StoredFile};
    #[pymodule_export]
    use crate::outcome::{
        Evicted, EvictedCounts, FetchedPiece, FindingChange, GroupStatus, Outcome, Reject, RepartitionBatch,
        RuleStats, Stats,
    };
    #[pymodule_export]
    use crate::restore::{Dropped, OrphanedFinding, Restored, restore};
    #[pymodule_export]
    use crate::tables::{Tables, is_time_zone, normalise};

    use super::{Bound, PyModule, PyModuleMethods, PyResult};
    use custodes_engine::Reason;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("VERSION", env!("CARGO_PKG_VERSION"))?;
        module.add("REASONS", Reason::ALL.map(Reason::name).to_vec())?;
        module.add("SNAPSHOT_VERSION", custodes_engine::SNAPSHOT_VERSION)?;
        let readable = custodes_engine::READABLE_SNAPSHOT_VERSIONS.collect::<Vec<_>>();
        module.add("READABLE_SNAPSHOT_VERSIONS", readable)?;
        crate::errors::declare_attributes(module.py())?;
        module.add("DEBUG_BUILD", cfg!(debug_assertions))
    }
}
