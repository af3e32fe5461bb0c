//! Encryption at rest for Python.

use custodes_cipher as core;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::path::PathBuf;

/// Named keys: the first encrypts, all decrypt.
#[pyclass(frozen, module = "custodes._core")]
pub struct Keyring {
    pub(crate) core: core::Keyring,
}

#[pymethods]
impl Keyring {
    #[new]
    #[allow(clippy::needless_pass_by_value)] // PyO3 passes them by value
    fn new(keys: Vec<(String, [u8; 32])>) -> PyResult<Self> {
        let named = keys.iter().map(|(name, secret)| {
            core::Key::new(name, *secret)
                .ok_or_else(|| PyValueError::new_err(format!("'{name}' is no name of a key")))
        });
        Ok(Self { core: core::Keyring::new(named.collect::<PyResult<_>>()?) })
    }

    /// Name of the key used to encrypt; `None` if nothing is encrypted.
    #[getter]
    fn current(&self) -> Option<&str> {
        self.core.current().map(core::Key::name)
    }

    fn encrypt<'py>(&self, py: Python<'py>, plain: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &py.detach(|| self.core.encrypt(plain))?))
    }

    fn decrypt<'py>(&self, py: Python<'py>, encrypted: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &py.detach(|| self.core.decrypt(encrypted))?))
    }

    /// Opens a file, encrypted or not, to be read at any position.
    #[allow(clippy::needless_pass_by_value)]
    fn open(&self, path: PathBuf) -> PyResult<StoredFile> {
        Ok(StoredFile { core: core::StoredInput::open(&path, &self.core)? })
    }
}

/// A file to be read at any position.
#[pyclass(frozen, module = "custodes._core")]
pub struct StoredFile {
    core: core::StoredInput,
}

#[pymethods]
impl StoredFile {
    fn __len__(&self) -> PyResult<usize> {
        Ok(self.core.len()? as usize)
    }

    fn read_at<'py>(&self, py: Python<'py>, offset: u64, count: usize) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &py.detach(|| self.core.read_at(offset, count))?))
    }
}
