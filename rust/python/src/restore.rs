//! Restoring an engine from a snapshot.

use crate::engine::Engine;
use crate::errors::restore_error;
use custodes_engine::{self as core, Engine as Core, Plan};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use std::num::NonZeroUsize;
use std::sync::Mutex;

/// A restored engine, and the state that its plan cannot use.
#[pyclass(frozen, get_all, module = "custodes._core")]
pub struct Restored {
    engine: Py<Engine>,
    dropped: Dropped,
}

/// State of a snapshot that the plan cannot use.
#[pyclass(frozen, get_all, module = "custodes._core")]
#[derive(Clone)]
pub struct Dropped {
    windows: Vec<String>,
    decisions: Vec<String>,
    orphans: Vec<OrphanedFinding>,
}

/// An open finding whose rule changed or was removed.
#[pyclass(frozen, get_all, module = "custodes._core")]
#[derive(Clone)]
pub struct OrphanedFinding {
    id: String,
    held_until: i64,
}

/// Restores an engine from a frame and its parts.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // PyO3 passes them by value
#[pyo3(signature = (plan, frame, parts, threads = NonZeroUsize::MIN))]
pub fn restore(
    py: Python<'_>,
    plan: &str,
    frame: PyBackedBytes,
    parts: Vec<PyBackedBytes>,
    threads: NonZeroUsize,
) -> PyResult<Restored> {
    let restored = py.detach(|| -> Result<_, core::RestoreError> {
        let plan = Plan::from_json(plan)?;
        let parts: Vec<&[u8]> = parts.iter().map(|part| &**part).collect();
        Core::restore(&plan, threads, &frame, &parts)
    });
    as_restored(py, restored)
}

pub(crate) fn as_restored(
    py: Python<'_>,
    restored: Result<(Core, core::Dropped), core::RestoreError>,
) -> PyResult<Restored> {
    let (core, dropped) = restored.map_err(|error| restore_error(py, error))?;
    let orphans = dropped.orphans.into_iter();
    let dropped = Dropped {
        windows: dropped.windows.into_iter().collect(),
        decisions: dropped.decisions.into_iter().collect(),
        orphans: orphans
            .map(|found| OrphanedFinding { id: found.id, held_until: found.held_until })
            .collect(),
    };
    Ok(Restored { engine: Py::new(py, Engine { core: Mutex::new(core) })?, dropped })
}
