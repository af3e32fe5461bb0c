//! Look-up tables.

use crate::errors::table_error;
use custodes_engine::{Columns, Lookup, Tables as Core};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use std::sync::Arc;

/// Whether the IANA database has a time zone of this name.
#[pyfunction]
pub fn is_time_zone(name: &str) -> bool {
    custodes_engine::is_time_zone(name)
}

/// Look-up tables, shared by engines and replaced while they run.
#[pyclass(frozen, module = "custodes._core")]
#[derive(Default)]
pub struct Tables {
    pub(crate) core: Core,
}

#[pymethods]
impl Tables {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// `secret` is the key of the fingerprints, so that no input can aim for collisions.
    #[pyo3(signature = (name, csv, keys, value, secret))]
    fn put(
        &self,
        py: Python<'_>,
        name: &str,
        csv: &Bound<'_, PyBytes>,
        keys: usize,
        value: Option<String>,
        secret: [u8; 16],
    ) -> PyResult<usize> {
        let csv = PyBackedBytes::from(csv.clone());
        let columns = Columns { keys, value };
        let table = py.detach(|| Lookup::from_csv(&csv, &columns, secret));
        let table = table.map_err(|error| table_error(py, &error))?;
        let entries = table.len();
        self.core.put(name, columns, Arc::new(table));
        Ok(entries)
    }

    fn update_from(&self, others: &Self) {
        self.core.update_from(&others.core);
    }

    fn become_like(&self, others: &Self) {
        self.core.become_like(&others.core);
    }
}
