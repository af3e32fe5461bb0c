"""Look-up tables that derived fields look up in: files or topics, read again when they change."""

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
"""Seconds between two looks whether a file has changed."""


class TableListener(Protocol):
    """Who hears of tables."""

    def table_read(self, table: str, entries: int | None) -> None:
        """It was read and has so many entries; ``None`` where it could not be."""

    def table_gone(self, table: str) -> None:
        """It is in force no more."""

    def row_rejected(self, table: str) -> None:
        """Something in it is no row."""


class TableSource(Protocol):
    """Where a table comes from."""

    identity: object
    """Equal for what is the same."""
    where: str
    """As a fault names it."""
    on_refused: Callable[[], None]
    """Hears of each thing that is no row."""

    def state(self) -> object:
        """Another one where what :meth:`read` returns may have changed; ``None`` where it cannot be read."""

    def read(self) -> tuple[object, bytes]:
        """The table as CSV, and the state it is of. Raises :class:`FaultsError`."""

    def close(self) -> None:
        """It is not needed any more."""


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
        # In this order: what changes while it is read is read once more.
        state = self.state()
        try:
            return state, self._path.read_bytes()
        except OSError as error:
            raise FaultsError([Fault(f"cannot read: {error.strerror}", self.where)]) from error

    def close(self) -> None:
        """There is nothing to close."""


class _NoListener:
    def table_read(self, table: str, entries: int | None) -> None: ...
    def table_gone(self, table: str) -> None: ...
    def row_rejected(self, table: str) -> None: ...


class LookupTables:
    """The tables in force."""

    def __init__(self) -> None:
        self.in_force = Tables()
        """What engines look up in."""
        self._watcher: TableListener = _NoListener()
        self._entries: dict[str, int] = {}
        self._sources: dict[str, TableSource] = {}
        self._uses: list[TableUse] = []
        self._read: dict[str, object] = {}
        """Of each table: how its source was when it was read; ``None`` where it could not be."""
        self._secret = secrets.token_bytes(16)
        self._one_at_a_time = threading.Lock()

    def load(self, sources: Mapping[str, TableSource], uses: Iterable[TableUse]) -> None:
        """Reads the tables in ``sources``, as ``uses`` ask of them.

        Raises :class:`FaultsError` for what cannot be read: then all stay in force as they were. Tables that were in
        force before and are not among these are no longer.
        """
        uses = list(uses)
        known = {use.table for use in uses}
        faults = [
            Fault(f"no derived field uses a table '{name}'", source.where, hint=did_you_mean(name, sorted(known)))
            for name, source in sources.items()
            if name not in known
        ]
        with self._one_at_a_time:
            # What is read already goes on.
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
        """Has ``watcher`` hear of the tables there are and, from now on, of each reading."""
        self._watcher = watcher
        for name, entries in self._entries.items():
            watcher.table_read(name, entries)

    def look_again(self) -> None:
        """Reads again what has changed. What cannot be read is told of, and what was read before stays."""
        with self._one_at_a_time:
            for name, source in self._sources.items():
                state = source.state()
                if state == self._read[name]:
                    continue
                # Told of once, until it changes again.
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
        """Lets the sources go."""
        _close_others(self._sources, {})

    def watch(self, stop: threading.Event) -> None:
        """Looks again and again, in a thread of its own, until ``stop`` is set."""

        def go_on() -> None:
            while not stop.wait(_LOOK_EVERY):
                self.look_again()

        threading.Thread(target=go_on, name="look-up tables", daemon=True).start()

    def _put(self, into: Tables, name: str, source: TableSource, uses: list[TableUse]) -> tuple[object, int]:
        """The state the source was read in, and how many entries it has."""
        state, content = source.read()
        entries = 0
        for use in (use for use in uses if use.table == name):
            try:
                entries = into.put(name, content, use.keys, use.value, self._secret)
            except TableError as error:
                raise FaultsError([Fault(error.problem, source.where, error.line)]) from error
        return state, entries


def csv_files(paths: Mapping[str, Path]) -> dict[str, TableSource]:
    """Tables in CSV files."""
    return {name: FileTable(path) for name, path in paths.items()}


def _close_others(sources: Mapping[str, TableSource], kept: Mapping[str, TableSource]) -> None:
    for source in sources.values():
        if not any(source is other for other in kept.values()):
            source.close()


def inline(tables: Mapping[str, list[dict[str, str]]]) -> Iterator[tuple[str, bytes]]:
    """Tables given row by row, as CSV."""
    for name, rows in tables.items():
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        yield name, text.getvalue().encode()
