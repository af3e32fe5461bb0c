//! The engine object.

use crate::errors::plan_error;
use crate::outcome::{Evicted, FetchedPiece, FindingChange, GroupStatus, Outcome, Stats};
use crate::restore::{Restored, as_restored};
use crate::tables::Tables;
use custodes_engine::{Aborted, Engine as Core, Fetched, Input, Plan, Record};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Mutex;

/// Counts events by the rules of a plan. Calls from several threads are serialised.
#[pyclass(frozen, module = "custodes._core")]
pub struct Engine {
    pub(crate) core: Mutex<Core>,
}

impl Engine {
    /// Releases the GIL, waits for the engine and calls `work` with it.
    fn run<T: Send>(&self, py: Python<'_>, work: impl FnOnce(&mut Core) -> T + Send) -> PyResult<T> {
        py.detach(|| self.core.lock().map(|mut core| work(&mut core)).map_err(|_| ())).map_err(|()| {
            PyRuntimeError::new_err("the engine failed in an earlier call; its state cannot be trusted")
        })
    }
}

/// Number of line ends in `text`.
#[pyfunction]
pub fn count_lines(py: Python<'_>, text: &Bound<'_, PyBytes>) -> usize {
    let text = PyBackedBytes::from(text.clone());
    py.detach(|| custodes_engine::count_lines(&text))
}

/// Splits a fetch between batches into pieces of at least `least` bytes.
#[pyfunction]
pub fn fetched_pieces(fetched: &Bound<'_, PyBytes>, least: usize) -> PyResult<Vec<FetchedPiece>> {
    let pieces = custodes_engine::fetched_pieces(fetched.as_bytes(), least);
    let pieces = pieces.map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(pieces.into_iter().map(FetchedPiece::from).collect())
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (plan, threads = NonZeroUsize::MIN))]
    fn new(py: Python<'_>, plan: &str, threads: NonZeroUsize) -> PyResult<Self> {
        let fault = |error: custodes_engine::PlanError| plan_error(py, error);
        let plan = Plan::from_json(plan).map_err(fault)?;
        Ok(Self { core: Mutex::new(Core::new(&plan, threads).map_err(fault)?) })
    }

    fn use_tables(&self, py: Python<'_>, tables: &Tables) -> PyResult<()> {
        let tables = tables.core.clone();
        self.run(py, |core| core.use_tables(tables))
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
        self.run(py, |core| core.process_lines(&text, first_line, Input { stream, now }).into())
    }

    /// `aborted` lists `(producer id, first offset)`; `None` also reads aborted transactions. `span` limits the call to a
    /// range of the bytes.
    #[pyo3(signature = (fetched, position = 0, stream = 0, now = None, aborted = None, span = None))]
    #[allow(clippy::too_many_arguments)] // keyword arguments in Python
    fn process_fetched(
        &self,
        py: Python<'_>,
        fetched: &Bound<'_, PyBytes>,
        position: u64,
        stream: u32,
        now: Option<i64>,
        aborted: Option<Vec<(i64, i64)>>,
        span: Option<(usize, usize)>,
    ) -> PyResult<Outcome> {
        let bytes = PyBackedBytes::from(fetched.clone());
        let aborted: Option<Vec<Aborted>> = aborted.map(|listed| {
            listed
                .into_iter()
                .map(|(producer_id, first_offset)| Aborted { producer_id, first_offset })
                .collect()
        });
        let (from, to) = span.unwrap_or((0, bytes.len()));
        if bytes.get(from..to).is_none() {
            return Err(PyValueError::new_err(format!(
                "span {from} to {to} is outside of {} bytes",
                bytes.len()
            )));
        }
        self.run(py, |core| {
            let fetched = Fetched { bytes: &bytes[from..to], position, aborted: aborted.as_deref() };
            core.process_fetched(fetched, Input { stream, now }).into()
        })
    }

    /// Each record is an object with `offset` and `value`, like those of kafka-python.
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
            let records = records.map(|(at, &(position, _))| Record::new(position, value(at)));
            core.process(records, Input { stream, now }).into()
        })
    }

    /// `batch` is the bytes of one of an outcome's batches, or of several joined.
    #[pyo3(signature = (batch, position = 0, stream = 0))]
    fn process_repartition_batch(
        &self,
        py: Python<'_>,
        batch: &Bound<'_, PyBytes>,
        position: u64,
        stream: u32,
    ) -> PyResult<Outcome> {
        let batch = PyBackedBytes::from(batch.clone());
        let input = Input { stream, now: None };
        let outcome = self.run(py, |core| core.process_repartition_batch(&batch, position, input))?;
        outcome.map(Outcome::from).map_err(|error| PyValueError::new_err(error.to_string()))
    }

    fn observe(&self, py: Python<'_>, stream: u32, time: i64) -> PyResult<Outcome> {
        self.run(py, |core| core.observe(stream, time).into())
    }

    fn parts(&self, py: Python<'_>) -> PyResult<usize> {
        self.run(py, |core| core.parts())
    }

    fn save_frame(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        self.run(py, |core| core.save_frame())
    }

    fn save_part<'py>(
        &self,
        py: Python<'py>,
        part: usize,
        positions: BTreeMap<u32, u64>,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let positions: Vec<(u32, u64)> = positions.into_iter().collect();
        let pieces = self.run(py, |core| core.save_part(part, &positions))?;
        Ok(pieces.into_iter().map(|piece| PyBytes::new(py, &piece)).collect())
    }

    #[pyo3(signature = (plan, positions, threads = NonZeroUsize::MIN))]
    fn replanned(
        &self,
        py: Python<'_>,
        plan: &str,
        positions: BTreeMap<u32, u64>,
        threads: NonZeroUsize,
    ) -> PyResult<Restored> {
        let positions: Vec<(u32, u64)> = positions.into_iter().collect();
        let plan = Plan::from_json(plan).map_err(|error| plan_error(py, error))?;
        as_restored(py, self.run(py, |core| core.replanned(&plan, threads, &positions))?)
    }

    fn reset_stream(&self, py: Python<'_>, stream: u32) -> PyResult<()> {
        self.run(py, |core| core.reset_stream(stream))
    }

    fn join(&self, py: Python<'_>, stream: u32) -> PyResult<()> {
        self.run(py, |core| core.join(stream))
    }

    fn leave(&self, py: Python<'_>, stream: u32) -> PyResult<Outcome> {
        self.run(py, |core| core.leave(stream).into())
    }

    fn set_idle(&self, py: Python<'_>, stream: u32) -> PyResult<Outcome> {
        self.run(py, |core| core.set_idle(stream).into())
    }

    fn finish(&self, py: Python<'_>) -> PyResult<Outcome> {
        self.run(py, |core| core.finish().into())
    }

    fn updates(&self, py: Python<'_>) -> PyResult<Vec<FindingChange>> {
        self.run(py, |core| core.updates().into_iter().map(FindingChange::from).collect())
    }

    fn used_bytes(&self, py: Python<'_>) -> PyResult<usize> {
        self.run(py, |core| core.used_bytes())
    }

    fn evict(&self, py: Python<'_>, most_bytes: usize) -> PyResult<Option<Evicted>> {
        self.run(py, |core| core.evict(most_bytes).map(Evicted::from))
    }

    #[allow(clippy::needless_pass_by_value)] // a list in Python
    fn group_status(
        &self,
        py: Python<'_>,
        rule: usize,
        group: Vec<String>,
        time: i64,
    ) -> PyResult<Option<GroupStatus>> {
        self.run(py, |core| core.group_status(rule, &group, time).map(GroupStatus::from))
    }

    fn stats(&self, py: Python<'_>) -> PyResult<Stats> {
        self.run(py, |core| core.stats().into())
    }
}
