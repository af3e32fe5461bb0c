//! The evidence log for Python.

use crate::keyring::Keyring;
use custodes_evidence as core;
use custodes_evidence::merkle;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

pyo3::create_exception!(_core, EvidenceDamagedError, pyo3::exceptions::PyException);

fn refused(error: core::Error) -> PyErr {
    match error {
        core::Error::Damaged(fault) => {
            EvidenceDamagedError::new_err(format!("{}: {}", fault.place, fault.what))
        }
        core::Error::Io(error) => PyOSError::new_err(error.to_string()),
    }
}

/// An open log.
#[pyclass(frozen, module = "custodes._core")]
pub struct EvidenceLog {
    core: Mutex<core::Log>,
}

impl EvidenceLog {
    fn core(&self) -> MutexGuard<'_, core::Log> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl EvidenceLog {
    #[new]
    #[allow(clippy::needless_pass_by_value)] // PyO3 passes them by value
    fn new(
        py: Python<'_>,
        folder: PathBuf,
        name: &str,
        secret: [u8; 32],
        keyring: &Keyring,
    ) -> PyResult<Self> {
        let signer = core::Signer::new(name, &secret);
        let log = py.detach(|| core::Log::open(&folder, signer)).map_err(refused)?;
        Ok(Self { core: Mutex::new(log.with_keys(keyring.core.clone())) })
    }

    /// Opens a log for reading that may be written meanwhile.
    #[staticmethod]
    #[allow(clippy::needless_pass_by_value)]
    fn read(py: Python<'_>, folder: PathBuf, key: String, keyring: &Keyring) -> PyResult<Self> {
        let verifier = verifiers(&[key])?.remove(0);
        let log = py.detach(|| core::Log::read(&folder, verifier)).map_err(refused)?;
        Ok(Self { core: Mutex::new(log.with_keys(keyring.core.clone())) })
    }

    #[allow(clippy::needless_pass_by_value)]
    fn append(&self, py: Python<'_>, key: [u8; 16], entries: Vec<Vec<u8>>, time: i64) -> PyResult<()> {
        py.detach(|| {
            let entries: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
            self.core().append(key, &entries, time)
        })
        .map_err(refused)
    }

    #[getter]
    fn size(&self) -> u64 {
        self.core().size()
    }

    /// The last head, signed.
    #[getter]
    fn head(&self) -> Option<String> {
        self.core().note().map(str::to_owned)
    }

    /// Verifier of this log's signatures.
    #[getter]
    fn key(&self) -> String {
        self.core().verifier().to_string()
    }

    fn keys(&self) -> Vec<[u8; 16]> {
        self.core().keys().collect()
    }

    fn runs(&self, key: [u8; 16]) -> Vec<(u64, u64)> {
        self.core().runs(&key)
    }

    fn entries(&self, py: Python<'_>, key: [u8; 16]) -> PyResult<Vec<(u64, Vec<u8>)>> {
        Ok(py.detach(|| self.core().entries(&key))?)
    }

    #[allow(clippy::needless_pass_by_value)]
    fn proofs(&self, py: Python<'_>, numbers: Vec<u64>) -> PyResult<Vec<Vec<[u8; 32]>>> {
        Ok(py.detach(|| self.core().proofs(&numbers))?)
    }

    #[allow(clippy::needless_pass_by_value)]
    fn erase(&self, py: Python<'_>, keys: Vec<[u8; 16]>) -> PyResult<()> {
        Ok(py.detach(|| self.core().erase(&keys))?)
    }
}

/// A deviation from what was written.
#[pyclass(frozen, get_all, module = "custodes._core")]
#[derive(Clone)]
pub struct EvidenceFault {
    place: String,
    offset: Option<u64>,
    entries: Option<(u64, u64)>,
    what: String,
}

/// Content of a log, and all faults in it.
#[pyclass(frozen, get_all, module = "custodes._core")]
pub struct EvidenceReport {
    entries: u64,
    blocks: u64,
    gone: Vec<(u64, u64)>,
    faults: Vec<EvidenceFault>,
    found: Vec<(u64, Vec<u8>)>,
}

fn verifiers(keys: &[String]) -> PyResult<Vec<core::Verifier>> {
    keys.iter()
        .map(|key| {
            core::Verifier::parse(key)
                .ok_or_else(|| PyValueError::new_err(format!("'{key}' is no key of a log")))
        })
        .collect()
}

/// Reads a whole log and compares it with heads stored elsewhere, each with the name of its place.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)]
pub fn verify_evidence(
    py: Python<'_>,
    folder: PathBuf,
    keys: Vec<String>,
    heads: Vec<(String, String)>,
    sought: &[u8],
    keyring: &Keyring,
) -> PyResult<EvidenceReport> {
    let verifiers = verifiers(&keys)?;
    let report = py.detach(|| core::verify(&folder, &verifiers, &heads, sought, &keyring.core))?;
    let fault = |fault: core::verify::EvidenceFault| EvidenceFault {
        place: fault.place,
        offset: fault.offset,
        entries: fault.entries,
        what: fault.what,
    };
    Ok(EvidenceReport {
        entries: report.entries,
        blocks: report.blocks,
        gone: report.gone,
        faults: report.faults.into_iter().map(fault).collect(),
        found: report.found,
    })
}

/// Size, root and time in microseconds of a head signed with one of the keys; `None` for anything else.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)]
pub fn open_head(keys: Vec<String>, note: &str) -> PyResult<Option<(u64, [u8; 32], i64)>> {
    let head = verifiers(&keys)?.iter().find_map(|verifier| verifier.open(note));
    Ok(head.map(|head| (head.size, head.root, head.time)))
}

/// Whether an entry is included in the tree of that size and root.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)]
pub fn is_in_log(entry: &[u8], number: u64, path: Vec<[u8; 32]>, size: u64, root: [u8; 32]) -> bool {
    merkle::is_included(merkle::leaf(entry), number, &path, size, &root)
}
