//! `custodes._core`: the engine as Python sees it. Only translation happens here.
//!
//! One call is one batch; the interpreter lock is let go while the engine works ([`Engine::run`] is the only
//! place). What comes back is small: findings that changed, records refused, counters.

mod engine;
mod evidence;
mod history;
mod keyring;
mod outcome;
mod saved;
mod tables;

use pyo3::prelude::*;

/// Windows are many small lists that grow, and a few tables that grow large; `custodes/__init__.py` has its settings.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[pymodule]
mod _core {
    #[pymodule_export]
    use crate::engine::{Engine, count_lines, fetched_pieces};
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
    use crate::outcome::{FindingChange, Outcome, Reject, RuleStats, Shed, Stats};
    #[pymodule_export]
    use crate::saved::restore;
    #[pymodule_export]
    use crate::tables::{Tables, is_time_zone};

    use super::{Bound, PyModule, PyModuleMethods, PyResult};
    use custodes_engine::Reason;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("VERSION", env!("CARGO_PKG_VERSION"))?;
        module.add("REASONS", Reason::ALL.map(Reason::name).to_vec())?;
        module.add("SNAPSHOT_VERSION", custodes_engine::SNAPSHOT_VERSION)?;
        module.add("DEBUG_BUILD", cfg!(debug_assertions))
    }
}
