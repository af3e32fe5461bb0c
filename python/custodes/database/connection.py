"""Database connections: tables are created if missing and migrated if older."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, inspect, make_url, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from custodes.database.columns import use_keys
from custodes.database.reencryption import encrypt_anew
from custodes.database.tables import findings, metadata, silences
from custodes.database.text import storable_parameters
from custodes.database.unusable import DatabaseUnusableError, file_problem, unusable, url_problem
from custodes.encryption.keys import NO_KEYS, Keys

MIGRATIONS = Path(__file__).parent / "migrations"
LATEST = "0012"
"""Revision of :mod:`custodes.database.tables`: the last one in ``migrations/versions``."""
_FIRST = "0001"

_TABLES_LOCK = 0x437573746F646573
"""Lock under which tables are created in PostgreSQL."""

_PATIENCE_FOR_TABLES_MS = 10_000
"""Seconds to wait for another process that creates tables in SQLite; as long as ``lock_timeout`` in PostgreSQL."""

_POSTGRESQL: dict[str, Any] = {
    "pool_pre_ping": True,
    # A pooler such as PgBouncer gives each transaction another session, so no statement is prepared in one.
    "connect_args": {"connect_timeout": 5, "prepare_threshold": None},
}
_TRANSACTION_TIMEOUTS = (
    "SET LOCAL idle_in_transaction_session_timeout = '5s'; SET LOCAL lock_timeout = '10s'; "
    "SET LOCAL statement_timeout = '30s'"
)
"""Limits of every transaction in PostgreSQL: a worker that stops inside one must not block the next owner of its tasks.
They are not options of the connection, which a pooler refuses or shares with others."""


class NewerDatabaseError(RuntimeError):
    """The database was created by a later version of Custodes."""


def open_database(url: str, patience_ms: int = 250, keys: Keys = NO_KEYS) -> Engine:
    """Returns an engine for the database, with tables of this version.

    ``patience_ms`` is the time to wait for a lock of SQLite: short by default, because the monitor retries and counts
    meanwhile; people prefer to wait. ``keys`` encrypt names.

    Raises :class:`NewerDatabaseError`, and :class:`DatabaseUnusableError`, one of SQLAlchemy's errors.
    """
    engine = _engine(url, patience_ms, keys)
    try:
        _prepare(engine, patience_ms)
    except SQLAlchemyError as error:
        engine.dispose()
        raise unusable(url, error) from error
    return engine


def database_problem(url: str, keys: Keys = NO_KEYS) -> str | None:
    """Returns why :func:`open_database` would fail; ``None`` if it would not. Changes nothing, and creates no file."""
    problem = file_problem(url)
    if problem is not None:
        return str(unusable(url, RuntimeError(problem)))
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_file():
        return None
    engine = create_engine(url, **(_POSTGRESQL if parsed.get_backend_name() == "postgresql" else {}))
    use_keys(engine, keys)
    try:
        with engine.connect() as connection:
            return _problem_with(connection)
    except SQLAlchemyError as error:
        return str(unusable(url, error))
    finally:
        engine.dispose()


def _problem_with(connection: Connection) -> str | None:
    revision = _revision(connection)
    if revision is not None and revision > LATEST:
        return str(_newer(revision))
    if revision != LATEST and connection.dialect.name == "postgresql":
        may_create = func.has_schema_privilege(func.current_schema(), "CREATE")
        if not connection.execute(select(may_create)).scalar_one():
            url = connection.engine.url.render_as_string(hide_password=False)
            return str(unusable(url, RuntimeError("the user may not create tables in its schema")))
    return None


def _engine(url: str, patience_ms: int, keys: Keys) -> Engine:
    """Returns an engine that is not connected yet. Raises :class:`DatabaseUnusableError` for an invalid URL."""
    if (problem := url_problem(url)) is not None:
        raise DatabaseUnusableError(f"findings.database {problem}")
    is_postgresql = make_url(url).get_backend_name() == "postgresql"
    engine = create_engine(url, **(_POSTGRESQL if is_postgresql else {}))
    if is_postgresql:
        event.listen(engine, "begin", _limit_transaction)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", partial(_tune_sqlite, patience_ms))
    event.listen(engine, "before_cursor_execute", _make_storable, retval=True)
    use_keys(engine, keys)
    return engine


def _prepare(engine: Engine, patience_ms: int) -> None:
    """Creates, migrates and re-encrypts the tables, if there is something to do."""
    is_postgresql = engine.dialect.name == "postgresql"
    with engine.begin() as connection:
        if is_postgresql:
            # Workers that start at the same time must not create the tables twice.
            connection.execute(select(func.pg_advisory_xact_lock(_TABLES_LOCK)))
        if _revision(connection) != LATEST:
            if not is_postgresql:
                _begin_alone(connection, patience_ms)
            _bring_up_to_date(connection)
        for table in (findings, silences):
            encrypt_anew(connection, table)


def _limit_transaction(connection: Connection) -> None:
    connection.exec_driver_sql(_TRANSACTION_TIMEOUTS)


def _make_storable(
    connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
) -> tuple[str, Any]:
    return statement, storable_parameters(parameters)


def _begin_alone(connection: Connection, patience_ms: int) -> None:
    """Begins an exclusive write transaction in SQLite, which Python's driver does not begin for DDL.

    Without it, a process that is killed while it creates the tables leaves some of them.
    """
    connection.exec_driver_sql(f"PRAGMA busy_timeout={_PATIENCE_FOR_TABLES_MS:d}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    connection.exec_driver_sql(f"PRAGMA busy_timeout={patience_ms:d}")


def _bring_up_to_date(connection: Connection) -> None:
    """Creates or migrates the tables, in an exclusive transaction."""
    revision = _revision(connection)
    if revision == LATEST:
        return
    if revision is None:
        if _is_empty(connection):
            _make_tables(connection)
            return
        _add_new_columns(connection)
        _stamp(connection, _FIRST)
    elif revision > LATEST:
        raise _newer(revision)
    migrate(connection, LATEST)


def _newer(revision: str) -> NewerDatabaseError:
    return NewerDatabaseError(f"the database has revision {revision}, which is later than {LATEST} of this version")


def _revision(connection: Connection) -> str | None:
    """Returns the revision of the database. The first versions did not store it."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return found


def _is_empty(connection: Connection) -> bool:
    there = set(inspect(connection).get_table_names())
    ours = (table for table in metadata.sorted_tables if table.name in there)
    return all(connection.execute(select(text("1")).select_from(table).limit(1)).first() is None for table in ours)


def _make_tables(connection: Connection) -> None:
    """Creates all tables, also if an old version was killed after it had created some."""
    metadata.drop_all(connection)
    metadata.create_all(connection)
    _stamp(connection, LATEST)


def migrate(connection: Connection, revision: str) -> None:
    """Migrates the tables to a revision, step by step."""
    # Imported here because it is slow and rarely needed.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _stamp(connection: Connection, revision: str) -> None:
    connection.execute(
        text("CREATE TABLE IF NOT EXISTS alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    )
    connection.execute(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": revision})


def _add_new_columns(connection: Connection) -> None:
    """Adds columns that the first versions lacked; those versions stored no revision."""
    there = set(inspect(connection).get_table_names())
    metadata.create_all(connection, tables=[table for table in metadata.sorted_tables if table.name in _OF_THE_FIRST])
    for table in metadata.sorted_tables:
        if table.name not in there:
            continue
        known = {column["name"] for column in inspect(connection).get_columns(table.name)}
        for column in table.columns:
            if column.name not in known | _OF_MIGRATIONS:
                kind = column.type.compile(connection.dialect)
                connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN {column.name} {kind}"))


_OF_MIGRATIONS = {"group_digest", "spelling"}
"""Columns of these tables that a migration adds, with their values."""
_OF_THE_FIRST = ("findings", "gaps", "shortfalls", "claims", "workers")


def _tune_sqlite(patience_ms: int, connection: Any, _: Any) -> None:
    """WAL mode lets readers and the writer work concurrently. A finding must be on the disk before a snapshot that has
    counted it, so every transaction is synced."""
    cursor = connection.cursor()
    try:
        _write_ahead(cursor)
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute(f"PRAGMA busy_timeout={patience_ms:d}")
        cursor.execute("PRAGMA foreign_keys=ON")
    except sqlite3.Error as error:
        # SQLAlchemy does not wrap the errors of this event.
        raise DBAPIError("PRAGMA", None, error) from error
    finally:
        cursor.close()


def _write_ahead(cursor: Any) -> None:
    """Switches a SQLite database to WAL mode, which is permanent.

    SQLite does not wait for other processes that switch at the same time, because each would wait for the other.
    """
    until = monotonic() + _PATIENCE_FOR_TABLES_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or monotonic() > until:
                raise
            sleep(0.01)
        else:
            return
