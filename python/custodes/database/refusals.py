"""Errors of databases: refusals of a row for its content, as opposed to failures of the database, which end."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DBAPIError, StatementError

_REFUSING_CLASSES = ("22", "23", "54")
"""Classes of SQLSTATE codes: invalid data, violated constraint, exceeded limit of the program."""

REFUSALS = (StatementError, ValueError, OverflowError)
"""Types of all errors of which :func:`is_refusal` can be true; drivers do not wrap all of theirs."""


def is_refusal(error: BaseException) -> bool:
    """Returns whether the database refused the content of a statement; another try cannot succeed."""
    if not isinstance(error, StatementError):
        return isinstance(error, ValueError | OverflowError)
    cause = error.orig
    if not isinstance(error, DBAPIError):
        # SQLAlchemy could not convert a parameter.
        return isinstance(cause, ValueError | OverflowError | TypeError)
    state = getattr(cause, "sqlstate", None)
    if isinstance(state, str):
        return state.startswith(_REFUSING_CLASSES)
    if isinstance(cause, sqlite3.Error):
        return isinstance(cause, sqlite3.IntegrityError | sqlite3.DataError | sqlite3.InterfaceError)
    return type(cause).__name__ == "DataError"
