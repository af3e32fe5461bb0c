//! The engine object.

use crate::outcome::{Outcome, Stats};
use custodes_engine::{Engine as Core, Input, Plan, Record, lines};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use std::sync::Mutex;

/// Counts events by the rules of a plan. Calls from several threads take turns.
#[pyclass(frozen, module = "custodes._core")]
pub struct Engine {
    core: Mutex<Core>,
}

impl Engine {
    /// Lets go of the interpreter lock, waits for the engine and works with it.
    fn run<T: Send>(&self, py: Python<'_>, work: impl FnOnce(&mut Core) -> T + Send) -> PyResult<T> {
        py.detach(|| self.core.lock().map(|mut core| work(&mut core)).map_err(|_| ())).map_err(|()| {
            PyRuntimeError::new_err("the engine failed in an earlier call; its state cannot be trusted")
        })
    }
}

/// How many line ends `text` has.
#[pyfunction]
pub fn count_lines(py: Python<'_>, text: &Bound<'_, PyBytes>) -> usize {
    let text = PyBackedBytes::from(text.clone());
    py.detach(|| custodes_engine::count_lines(&text))
}

#[pymethods]
impl Engine {
    #[new]
    fn new(plan: &str) -> PyResult<Self> {
        let fault = |error: custodes_engine::PlanError| PyValueError::new_err(error.to_string());
        let plan = Plan::from_json(plan).map_err(fault)?;
        Ok(Self { core: Mutex::new(Core::new(&plan).map_err(fault)?) })
    }

    #[pyo3(signature = (text, first_line = 1, stream = 0, now = None))]
    fn process_lines(
        &self,
        py: Python<'_>,
        text: &Bound<'_, PyBytes>,
        first_line: u64,
        stream: u32,
        now: Option<i64>,
    ) -> PyResult<Outcome> {
        let text = PyBackedBytes::from(text.clone());
        self.run(py, |core| {
            let outcome = core.process(lines(&text, first_line), Input { stream, now });
            let refused: Vec<&[u8]> = if outcome.rejects.is_empty() {
                Vec::new()
            } else {
                lines(&text, first_line).map(|record| record.value).collect()
            };
            Outcome::new(outcome, |reject| refused.get(reject.index).copied().unwrap_or_default())
        })
    }

    /// Each record is an object with `offset` and `value`, as kafka-python hands them out.
    #[pyo3(signature = (records, stream = 0, now = None))]
    fn process_records(
        &self,
        py: Python<'_>,
        records: Vec<Bound<'_, PyAny>>,
        stream: u32,
        now: Option<i64>,
    ) -> PyResult<Outcome> {
        let mut batch: Vec<(u64, Option<PyBackedBytes>)> = Vec::with_capacity(records.len());
        let offset_name = pyo3::intern!(py, "offset");
        let value_name = pyo3::intern!(py, "value");
        for record in records {
            batch.push((record.getattr(offset_name)?.extract()?, record.getattr(value_name)?.extract()?));
        }
        self.run(py, |core| {
            let value = |at: usize| batch.get(at).and_then(|(_, value)| value.as_deref()).unwrap_or_default();
            let records = batch.iter().enumerate();
            let records = records.map(|(at, &(position, _))| Record { position, value: value(at) });
            let outcome = core.process(records, Input { stream, now });
            Outcome::new(outcome, |reject| value(reject.index))
        })
    }

    fn join(&self, py: Python<'_>, stream: u32) -> PyResult<()> {
        self.run(py, |core| core.join(stream))
    }

    fn leave(&self, py: Python<'_>, stream: u32) -> PyResult<Outcome> {
        self.run(py, |core| Outcome::new(core.leave(stream), |_| &[]))
    }

    fn set_idle(&self, py: Python<'_>, stream: u32) -> PyResult<Outcome> {
        self.run(py, |core| Outcome::new(core.set_idle(stream), |_| &[]))
    }

    fn finish(&self, py: Python<'_>) -> PyResult<Outcome> {
        self.run(py, |core| Outcome::new(core.finish(), |_| &[]))
    }

    fn stats(&self, py: Python<'_>) -> PyResult<Stats> {
        self.run(py, |core| core.stats().into())
    }
}
