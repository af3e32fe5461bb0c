//! Engine errors as Python exceptions with attributes, so that callers never parse a message.

use custodes_engine as core;
use pyo3::PyTypeInfo;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

pyo3::create_exception!(_core, PlanError, PyValueError);
pyo3::create_exception!(_core, RestoreError, PyValueError);
pyo3::create_exception!(_core, TableError, PyValueError);

/// Gives the exception types their attributes, with values for exceptions that Python code creates itself.
pub(crate) fn declare_attributes(py: Python<'_>) -> PyResult<()> {
    let plan = PlanError::type_object(py);
    plan.setattr("kind", "")?;
    plan.setattr("rule", py.None())?;
    plan.setattr("field", py.None())?;
    plan.setattr("problem", "")?;
    RestoreError::type_object(py).setattr("kind", "")?;
    let table = TableError::type_object(py);
    table.setattr("line", 1)?;
    table.setattr("problem", "")
}

/// An error of a plan, with its location.
pub(crate) fn plan_error(py: Python<'_>, error: core::PlanError) -> PyErr {
    let raised = PlanError::new_err(error.to_string());
    let value = raised.value(py);
    let attributes = (value.setattr("kind", error.kind.name()))
        .and_then(|()| value.setattr("rule", error.rule))
        .and_then(|()| value.setattr("field", error.field))
        .and_then(|()| value.setattr("problem", error.problem));
    attributes.err().unwrap_or(raised)
}

/// An error of a snapshot, or of the plan it is restored with.
pub(crate) fn restore_error(py: Python<'_>, error: core::RestoreError) -> PyErr {
    if let core::RestoreError::Plan(error) = error {
        return plan_error(py, error);
    }
    let raised = RestoreError::new_err(error.to_string());
    raised.value(py).setattr("kind", error.kind()).err().unwrap_or(raised)
}

/// An error of a look-up table, with its line.
pub(crate) fn table_error(py: Python<'_>, error: &core::TableError) -> PyErr {
    let raised = TableError::new_err(error.to_string());
    let value = raised.value(py);
    let attributes =
        value.setattr("line", error.line()).and_then(|()| value.setattr("problem", error.problem()));
    attributes.err().unwrap_or(raised)
}
