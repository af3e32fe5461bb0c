"""Look-up tables for derived fields, from files or topics, reloaded when they change."""

from __future__ import annotations

import csv
import io
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

from custodes._core import TableError, Tables
from custodes.config import Fault, FaultsError
from custodes.config.faults import did_you_mean
from custodes.config.mapping import TableUse
from custodes.log_events import LookupTableFailed, LookupTableRead

_LOOK_EVERY = 1.0
"""Seconds between two checks for changed files."""


class TableListener(Protocol):
    """Receives events of look-up tables."""

    def table_read(self, table: str, entries: int | None) -> None:
        """Called after a read, with the number of entries; ``None`` after a failed read."""

    def table_gone(self, table: str) -> None:
        """Called after a table was removed."""

    def row_rejected(self, table: str) -> None:
        """Called for a record that is not a valid row."""


class TableSource(Protocol):
    """Source of a table."""

    identity: object
    """Key of the source; equal for equal sources."""
    where: str
    """Name of the source in faults."""
    on_refused: Callable[[], None]
    """Called for each record that is not a valid row."""

    def state(self) -> object:
        """Returns a version, which changes when the result of :meth:`read` may have changed; ``None`` if unreadable."""

    def read(self) -> tuple[object, bytes]:
        """Returns the table as CSV, and its version. Raises :class:`FaultsError`."""

    def close(self) -> None:
        """Releases the source."""


class FileTable:
    """A table in a CSV file."""

    def __init__(self, path: Path) -> None:
        self.identity: object = path
        self._path = path
        self.where = str(path)
        self.on_refused: Callable[[], None] = lambda: None

    def state(self) -> tuple[int, int, int] | None:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def read(self) -> tuple[object, bytes]:
        # In this order, a file that changes during the read is read again.
        state = self.state()
        try:
            return state, self._path.read_bytes()
        except OSError as error:
            raise FaultsError([Fault(f"cannot read: {error.strerror}", self.where)]) from error

    def close(self) -> None:
        """Does nothing: a file is open only during a read."""


class _NoListener:
    def table_read(self, table: str, entries: int | None) -> None: ...
    def table_gone(self, table: str) -> None: ...
    def row_rejected(self, table: str) -> None: ...


class LookupTables:
    """The tables in force."""

    def __init__(self) -> None:
        self.in_force = Tables()
        """The tables that engines use."""
        self._watcher: TableListener = _NoListener()
        self._entries: dict[str, int] = {}
        self._sources: dict[str, TableSource] = {}
        self._uses: list[TableUse] = []
        self._read: dict[str, object] = {}
        """Version of each table's source at its last read; ``None`` after a failed read."""
        self._secret = secrets.token_bytes(16)
        self._one_at_a_time = threading.Lock()

    def load(self, sources: Mapping[str, TableSource], uses: Iterable[TableUse]) -> None:
        """Reads the tables in ``sources``, as required by ``uses``.

        Raises :class:`FaultsError` for a table that cannot be read; then all tables stay in force unchanged. Tables
        that are not in ``sources`` are removed.
        """
        uses = list(uses)
        known = {use.table for use in uses}
        faults = [
            Fault(f"no derived field uses a table '{name}'", source.where, hint=did_you_mean(name, sorted(known)))
            for name, source in sources.items()
            if name not in known
        ]
        with self._one_at_a_time:
            # The source is in use from here on.
            sources = {name: self._same(name, source) for name, source in sources.items()}
            read: dict[str, object] = {}
            entries: dict[str, int] = {}
            fresh = Tables()
            for name in sources.keys() & known:
                sources[name].on_refused = partial(self._refused, name)
                try:
                    read[name], entries[name] = self._put(fresh, name, sources[name], uses)
                except FaultsError as error:
                    faults += error.faults
            if faults:
                _close_others(sources, self._sources)
                raise FaultsError(faults)
            self.in_force.become_like(fresh)
            _close_others(self._sources, sources)
            gone = self._entries.keys() - entries.keys()
            self._sources, self._uses, self._read, self._entries = dict(sources), uses, read, entries
        for name in gone:
            self._watcher.table_gone(name)
        self.tell(self._watcher)

    def _same(self, name: str, source: TableSource) -> TableSource:
        known = self._sources.get(name)
        return known if known is not None and known.identity == source.identity else source

    def _refused(self, table: str) -> None:
        self._watcher.row_rejected(table)

    def tell(self, watcher: TableListener) -> None:
        """Notifies ``watcher`` of the current tables and, from now on, of each read."""
        self._watcher = watcher
        for name, entries in self._entries.items():
            watcher.table_read(name, entries)

    def look_again(self) -> None:
        """Reads changed tables again. A failed read is logged, and the previous content stays in force."""
        with self._one_at_a_time:
            for name, source in self._sources.items():
                state = source.state()
                if state == self._read[name]:
                    continue
                # Each fault is logged once, until the source changes again.
                self._read[name] = state
                fresh = Tables()
                try:
                    self._read[name], self._entries[name] = self._put(fresh, name, source, self._uses)
                except FaultsError as error:
                    self._watcher.table_read(name, None)
                    faults = [str(fault) for fault in error.faults]
                    LookupTableFailed(faults=faults).emit()
                else:
                    self.in_force.update_from(fresh)
                    self._watcher.table_read(name, self._entries[name])
                    LookupTableRead(table=name).emit()

    def close(self) -> None:
        """Releases the sources."""
        _close_others(self._sources, {})

    def watch(self, stop: threading.Event) -> None:
        """Checks for changes repeatedly, in its own thread, until ``stop`` is set."""

        def go_on() -> None:
            while not stop.wait(_LOOK_EVERY):
                self.look_again()

        threading.Thread(target=go_on, name="look-up tables", daemon=True).start()

    def _put(self, into: Tables, name: str, source: TableSource, uses: list[TableUse]) -> tuple[object, int]:
        """Returns the version of the source at the read, and the number of entries."""
        state, content = source.read()
        entries = 0
        for use in (use for use in uses if use.table == name):
            try:
                entries = into.put(name, content, use.forms, use.value, self._secret)
            except TableError as error:
                raise FaultsError([Fault(error.problem, source.where, error.line)]) from error
        return state, entries


def csv_files(paths: Mapping[str, Path]) -> dict[str, TableSource]:
    """Returns tables in CSV files."""
    return {name: FileTable(path) for name, path in paths.items()}


def _close_others(sources: Mapping[str, TableSource], kept: Mapping[str, TableSource]) -> None:
    for source in sources.values():
        if not any(source is other for other in kept.values()):
            source.close()


def inline(tables: Mapping[str, list[dict[str, str]]]) -> Iterator[tuple[str, bytes]]:
    """Returns tables from rows, as CSV."""
    for name, rows in tables.items():
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        yield name, text.getvalue().encode()
