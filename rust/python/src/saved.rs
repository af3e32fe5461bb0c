//! Going on from a snapshot.

use crate::engine::Engine;
use custodes_engine::{Dropped, Engine as Core, Plan, RestoreError};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use std::num::NonZeroUsize;
use std::sync::Mutex;

/// An engine, ids of rules whose windows are gone, of rules whose decisions are, and findings left open by these.
pub(crate) type Restored = (Engine, Vec<String>, Vec<String>, Vec<(String, i64)>);

/// An engine that goes on from a frame and its parts.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // it is how PyO3 hands them over
#[pyo3(signature = (plan, frame, parts, threads = NonZeroUsize::MIN))]
pub fn restore(
    py: Python<'_>,
    plan: &str,
    frame: PyBackedBytes,
    parts: Vec<PyBackedBytes>,
    threads: NonZeroUsize,
) -> PyResult<Restored> {
    let restored = py.detach(|| -> Result<_, RestoreError> {
        let plan = Plan::from_json(plan)?;
        let parts: Vec<&[u8]> = parts.iter().map(|part| &**part).collect();
        Core::restore(&plan, threads, &frame, &parts)
    });
    as_restored(restored)
}

pub(crate) fn as_restored(restored: Result<(Core, Dropped), RestoreError>) -> PyResult<Restored> {
    let (core, dropped) = restored.map_err(|error| PyValueError::new_err(error.to_string()))?;
    let orphans = dropped.orphans.into_iter().map(|orphan| (orphan.id, orphan.held_until));
    Ok((
        Engine { core: Mutex::new(core) },
        dropped.windows.into_iter().collect(),
        dropped.decisions.into_iter().collect(),
        orphans.collect(),
    ))
}
