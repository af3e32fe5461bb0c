//! Recorded events for Python.

use crate::keyring::Keyring;
use custodes_engine as core;
use custodes_history::{Part, encode, merge};
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::path::PathBuf;
use std::sync::Arc;

/// The recorded events of a batch.
#[pyclass(frozen, from_py_object, module = "custodes._core")]
#[derive(Clone)]
pub struct Recording {
    core: Arc<core::Recording>,
}

impl From<core::Recording> for Recording {
    fn from(core: core::Recording) -> Self {
        Self { core: Arc::new(core) }
    }
}

#[pymethods]
impl Recording {
    fn __len__(&self) -> usize {
        self.core.len()
    }

    #[getter]
    fn last_position(&self) -> Option<u64> {
        self.core.positions.last().copied()
    }
}

/// Each part is the name of a stream, the first position to write, and the recorded events.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // PyO3 passes them by value
pub fn encode_history(py: Python<'_>, parts: Vec<(String, u64, Recording)>) -> PyResult<Bound<'_, PyBytes>> {
    let written = py.detach(|| {
        let parts = parts.iter().map(|(source, from, recording)| Part {
            source,
            from: *from,
            recording: &recording.core,
        });
        encode(&parts.collect::<Vec<_>>())
    });
    let written = written.map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    Ok(PyBytes::new(py, &written))
}

/// Merges files sorted as by `encode_history` into one, encrypted if the keyring has a key.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)]
pub fn merge_history(
    py: Python<'_>,
    inputs: Vec<PathBuf>,
    output: PathBuf,
    keyring: &Keyring,
) -> PyResult<()> {
    py.detach(|| merge(&inputs, &output, &keyring.core))
        .map_err(|error| PyOSError::new_err(error.to_string()))
}
