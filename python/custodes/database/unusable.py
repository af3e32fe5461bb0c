"""Why a database cannot be used, in one line, without the password in its URL."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

_BACKENDS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}


class DatabaseUnusableError(SQLAlchemyError, RuntimeError):
    """The database cannot be opened. The message is one line and names the database and the cause."""


def url_problem(url: str) -> str | None:
    """Returns what is wrong with the URL of a database; ``None`` if nothing is. The URL may contain a password."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return "is not the URL of a database, such as sqlite:///custodes.db or postgresql+psycopg://USER@HOST/NAME"
    expected = _BACKENDS.get(parsed.get_backend_name())
    if expected is None:
        return f"is for {parsed.get_backend_name()}; Custodes stores findings in SQLite or PostgreSQL"
    if parsed.drivername not in {expected, f"{expected}+pysqlite"}:
        return f"has the driver {parsed.drivername}; use {expected}://…"
    return None


def shown(url: str) -> str:
    """Returns a valid URL without password and options."""
    return make_url(url).set(password=None, query={}).render_as_string()


def unusable(url: str, error: BaseException) -> DatabaseUnusableError:
    """Returns the error to raise for a database that cannot be opened or used."""
    if isinstance(error, DatabaseUnusableError):
        return error
    cause = getattr(error, "orig", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    said = lines[0] if lines else type(cause).__name__
    return DatabaseUnusableError(f"the database {shown(url)} cannot be used: {said} (see findings.database)")


def file_problem(url: str) -> str | None:
    """Returns why the file of an SQLite database cannot be created or written; ``None`` if it can, or for others."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in {None, "", ":memory:"}:
        return None
    path = Path(str(parsed.database))
    if path.exists():
        return None if path.is_file() and os.access(path, os.R_OK | os.W_OK) else f"{path} is not a writable file"
    if not path.parent.is_dir():
        return f"{path.parent} is not a directory"
    return None if os.access(path.parent, os.W_OK | os.X_OK) else f"{path.parent} is not writable"
