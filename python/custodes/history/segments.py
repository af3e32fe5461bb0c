"""The files of the history, and the readers that still use them.

A file is a *segment*. Its name is the range of numbers it covers, ``first-last.parquet``: a written segment covers its
own number, a merged one the numbers of all its parts. No list of segments is needed: a segment inside the range of
another was left over by a merge that a crash interrupted, and is deleted.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from custodes.encryption.keys import NO_KEYS, Keys
from custodes.history.database import STORED, connect
from custodes.log_events import HistorySegmentDamaged
from custodes.state.folder import LocalFolder

_NAME = re.compile(r"(\d{10})-(\d{10})\.parquet")
_RECENT = 64
"""Number of newest segments queried for each stream's last position."""


@dataclass(frozen=True, order=True)
class HistorySegment:
    """One file. Times are microseconds since the epoch."""

    first: int
    last: int
    rows: int
    oldest: int
    newest: int

    @property
    def name(self) -> str:
        return f"{self.first:010}-{self.last:010}.parquet"

    @property
    def span(self) -> int:
        """Number of written segments that it contains."""
        return self.last - self.first + 1


class SegmentStore:
    """All segments of one history, in its own folder. Safe to use from several threads."""

    def __init__(self, path: Path, keys: Keys = NO_KEYS) -> None:
        """``keys`` encrypt files. Raises :class:`~custodes.state.FolderInUseError` and ``OSError``."""
        self.path = path.resolve()
        self.keys = keys
        self._lock = threading.Lock()
        self._readers = 0
        self._leaving: list[str] = []
        self._folder = LocalFolder(self.path)
        try:
            self.database = connect(self.path, keys)
            self._segments = sorted(segment for found in self._found() if (segment := self._readable(*found)))
        except BaseException:
            self._folder.close()
            raise

    def _found(self) -> list[tuple[int, int]]:
        """Returns the numbers of the files to keep, and deletes left-over ones."""
        whole: list[tuple[int, int]] = []
        for name in self._folder.names():
            match = _NAME.fullmatch(name)
            if match:
                whole.append((int(match[1]), int(match[2])))
            elif name.endswith(".new"):
                self._folder.remove(name)
        outer = [one for one in whole if not any(_is_within(one, other) for other in whole)]
        for first, last in set(whole) - set(outer):
            self._folder.remove(f"{first:010}-{last:010}.parquet")
        return outer

    def _readable(self, first: int, last: int) -> HistorySegment | None:
        """Reads a segment at the start; returns ``None`` for a damaged one, which is renamed."""
        name = f"{first:010}-{last:010}.parquet"
        try:
            # A segment whose key is missing is not damaged, and stays.
            self.keys.files.open(self.path / name)
            return self._describe(first, last)
        except PermissionError:
            raise
        except (duckdb.Error, OSError) as error:
            HistorySegmentDamaged(file=name, error=str(error)).emit()
            self._folder.rename(name, f"{name}.damaged")
            return None

    def _describe(self, first: int, last: int) -> HistorySegment:
        query = "SELECT count(*), epoch_us(min(time)), epoch_us(max(time)) FROM read_parquet(?)"
        place = self.place(f"{first:010}-{last:010}.parquet")
        rows, oldest, newest = self.database.cursor().execute(query, [place]).fetchall()[0]
        return HistorySegment(first, last, rows, oldest or 0, newest or 0)

    def place(self, name: str) -> str:
        """Returns the name under which the database reads a file."""
        return f"{STORED}://{name}" if self.keys.current else str(self.path / name)

    @property
    def segments(self) -> Sequence[HistorySegment]:
        """All segments, earliest written first."""
        with self._lock:
            return tuple(self._segments)

    @property
    def next_number(self) -> int:
        with self._lock:
            return self._segments[-1].last + 1 if self._segments else 1

    def come_to(self) -> dict[str, int]:
        """Returns the position after the last one of each stream, from the newest segments."""
        newest = [self.place(segment.name) for segment in self.segments[-_RECENT:]]
        if not newest:
            return {}
        query = "SELECT source, max(position) + 1 FROM read_parquet(?) GROUP BY source"
        return dict(self.database.cursor().execute(query, [newest]).fetchall())

    def put(self, first: int, last: int, data: bytes) -> None:
        """Adds a segment; returns once it is on the disk. Raises ``OSError``."""
        fresh = f"{first:010}-{last:010}.new"
        output = self._folder.create(fresh)
        try:
            output.write(self.keys.files.encrypt(data))
            output.sync()
        finally:
            output.close()
        self.adopt(fresh, first, last)

    def adopt(self, fresh: str, first: int, last: int) -> None:
        """Adds a merged file that was written into the folder, in place of the segments in its range."""
        name = f"{first:010}-{last:010}.parquet"
        self._folder.rename(fresh, name)
        self._folder.sync()
        segment = self._describe(first, last)
        with self._lock:
            within = [one for one in self._segments if first <= one.first and one.last <= last]
            self._segments = sorted([*(one for one in self._segments if one not in within), segment])
            self._leaving += [one.name for one in within]
        self._sweep()

    def drop(self, segments: Sequence[HistorySegment]) -> None:
        """Deletes segments."""
        with self._lock:
            self._segments = [one for one in self._segments if one not in segments]
            self._leaving += [one.name for one in segments]
        self._sweep()

    def _sweep(self) -> None:
        """Removes files that no reader uses any more."""
        with self._lock:
            leaving, self._leaving = ([], self._leaving) if self._readers else (self._leaving, [])
        for name in leaving:
            self._folder.remove(name)

    @contextmanager
    def reading(self, since: int | None = None, until: int | None = None) -> Iterator[list[HistorySegment]]:
        """Returns the segments with events in an interval; their files are kept while they are being read."""
        with self._lock:
            self._readers += 1
            within = [
                one
                for one in self._segments
                if (since is None or one.newest >= since) and (until is None or one.oldest <= until)
            ]
        try:
            yield within
        finally:
            with self._lock:
                self._readers -= 1
            self._sweep()

    def close(self) -> None:
        self.database.close()
        self._folder.close()


def _is_within(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one != other and other[0] <= one[0] and one[1] <= other[1]
