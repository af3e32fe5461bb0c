//! Look-up tables.

use crate::errors::table_error;
use custodes_engine::{Columns, IdentityForm, Lookup, Tables as Core};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use std::sync::Arc;

/// Whether the IANA database has a time zone of this name.
#[pyfunction]
pub fn is_time_zone(name: &str) -> bool {
    custodes_engine::is_time_zone(name)
}

/// Normal form of an identity, for searches. `form` is JSON as in the plan.
#[pyfunction]
pub fn normalise(form: &str, text: &str) -> PyResult<String> {
    Ok(custodes_engine::normal_form(identity_form(form)?, text).unwrap_or_else(|| text.to_owned()))
}

fn identity_form(json: &str) -> PyResult<IdentityForm> {
    serde_json::from_str(json).map_err(|error| PyValueError::new_err(format!("identity form: {error}")))
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

    /// `forms` has the normal form of each key column as JSON, `None` for a column that is no identity. `secret` is the key of the fingerprints, so that no input can aim for collisions.
    #[pyo3(signature = (name, csv, forms, value, secret))]
    fn put(
        &self,
        py: Python<'_>,
        name: &str,
        csv: &Bound<'_, PyBytes>,
        forms: Vec<Option<String>>,
        value: Option<String>,
        secret: [u8; 16],
    ) -> PyResult<usize> {
        let csv = PyBackedBytes::from(csv.clone());
        let keys = forms.len();
        let forms = forms.into_iter().map(|form| form.map(|form| identity_form(&form)).transpose());
        let columns = Columns { keys, value, forms: forms.collect::<PyResult<_>>()? };
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
