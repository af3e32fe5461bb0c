"""Look-up tables: CSV files that derived fields look up in, read again when they change."""

from __future__ import annotations

import csv
import io
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import structlog

from custodes._core import Tables
from custodes.config import Fault, FaultsError
from custodes.config.faults import did_you_mean
from custodes.config.mapping import TableUse

log = structlog.get_logger("custodes.tables")

_LOOK_EVERY = 1.0
"""Seconds between two looks whether a file has changed."""

OnRead = Callable[[str, int | None], None]
"""Hears of each reading: which table, and how many entries it has, or ``None`` where it could not be read."""

_State = tuple[int, int, int]


class LookupTables:
    """The tables in force."""

    def __init__(self) -> None:
        self.in_force = Tables()
        """What engines look up in."""
        self._on_read: OnRead = lambda table, entries: None
        self._entries: dict[str, int] = {}
        self._files: dict[str, Path] = {}
        self._uses: list[TableUse] = []
        self._read: dict[str, _State | None] = {}
        """Of each table: how its file was when it was read; ``None`` where it could not be."""
        self._secret = secrets.token_bytes(16)
        self._one_at_a_time = threading.Lock()

    def load(self, files: Mapping[str, Path], uses: Iterable[TableUse]) -> None:
        """Reads the tables in ``files``, as ``uses`` ask of them.

        Raises :class:`FaultsError` for what cannot be read: then all stay in force as they were. Tables that were in
        force before and are not among these are no longer.
        """
        uses = list(uses)
        known = {use.table for use in uses}
        faults = [
            Fault(f"no derived field looks up in a table '{name}'", str(path), hint=did_you_mean(name, sorted(known)))
            for name, path in files.items()
            if name not in known
        ]
        with self._one_at_a_time:
            read: dict[str, _State | None] = {}
            entries: dict[str, int] = {}
            fresh = Tables()
            for name in files.keys() & known:
                try:
                    read[name], entries[name] = self._put(fresh, name, files[name], uses)
                except FaultsError as error:
                    faults += error.faults
            if faults:
                raise FaultsError(faults)
            self.in_force.become_like(fresh)
            self._files, self._uses, self._read, self._entries = dict(files), uses, read, entries
        self.tell(self._on_read)

    def tell(self, on_read: OnRead) -> None:
        """Has ``on_read`` hear of the tables there are and, from now on, of each reading."""
        self._on_read = on_read
        for name, entries in self._entries.items():
            on_read(name, entries)

    def look_again(self) -> None:
        """Reads files again that have changed. One that cannot be read is told of, and what was read before stays."""
        with self._one_at_a_time:
            for name, path in self._files.items():
                if _state(path) == self._read[name]:
                    continue
                # Told of once, until the file changes again.
                self._read[name] = _state(path)
                fresh = Tables()
                try:
                    self._read[name], self._entries[name] = self._put(fresh, name, path, self._uses)
                except FaultsError as error:
                    self._on_read(name, None)
                    faults = [str(fault) for fault in error.faults]
                    log.warning("a look-up table was not read; the one before stays in force", faults=faults)
                else:
                    self.in_force.update_from(fresh)
                    self._on_read(name, self._entries[name])
                    log.info("a look-up table was read", table=name)

    def watch(self, stop: threading.Event) -> None:
        """Looks again and again, in a thread of its own, until ``stop`` is set."""

        def go_on() -> None:
            while not stop.wait(_LOOK_EVERY):
                self.look_again()

        threading.Thread(target=go_on, name="look-up tables", daemon=True).start()

    def _put(self, into: Tables, name: str, path: Path, uses: list[TableUse]) -> tuple[_State | None, int]:
        """How the file was before it was read, and how many entries it has."""
        # In this order: what changes while it is read is read once more.
        state = _state(path)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise FaultsError([Fault(f"cannot read: {error.strerror}", str(path))]) from error
        entries = 0
        for use in (use for use in uses if use.table == name):
            try:
                entries = into.put(name, content, use.keys, use.value, self._secret)
            except ValueError as error:
                line, _, problem = str(error).removeprefix("line ").partition(": ")
                raise FaultsError([Fault(problem, str(path), int(line))]) from error
        return state, entries


def inline(tables: Mapping[str, list[dict[str, str]]]) -> Iterator[tuple[str, bytes]]:
    """Tables given row by row, as CSV."""
    for name, rows in tables.items():
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        yield name, text.getvalue().encode()


def _state(path: Path) -> _State | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
