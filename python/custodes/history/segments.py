"""The files of the history: which there are, and which a reader may still be in.

A file is a *segment*. Its name says which numbers it covers, ``first-last.parquet``: one that was written covers its
own, one that several were merged into all of theirs. So no list of them has to be kept: a segment within another's
numbers is left over from a merge that a crash cut short, and goes.
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
"""So many of the newest segments are asked how far they have come in each stream."""


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
        """How many that were written are in it."""
        return self.last - self.first + 1


class SegmentStore:
    """All segments of one history, in a folder of its own. Used from several threads."""

    def __init__(self, path: Path, keys: Keys = NO_KEYS) -> None:
        """``keys`` is what files are encrypted by. Raises :class:`~custodes.state.FolderInUseError`, and ``OSError`` as
        it comes."""
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
        """The numbers of the files that are to stay; what is left over goes."""
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
        """A segment found at the start; ``None`` where it is damaged, and then it is put aside."""
        name = f"{first:010}-{last:010}.parquet"
        try:
            # Without its key it is as good as ever, and stays where it is.
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
        """Where the database finds a file."""
        return f"{STORED}://{name}" if self.keys.current else str(self.path / name)

    @property
    def segments(self) -> Sequence[HistorySegment]:
        """Those there are, the earliest written first."""
        with self._lock:
            return tuple(self._segments)

    @property
    def next_number(self) -> int:
        with self._lock:
            return self._segments[-1].last + 1 if self._segments else 1

    def come_to(self) -> dict[str, int]:
        """By stream, the position after the last that the newest segments have."""
        newest = [self.place(segment.name) for segment in self.segments[-_RECENT:]]
        if not newest:
            return {}
        query = "SELECT source, max(position) + 1 FROM read_parquet(?) GROUP BY source"
        return dict(self.database.cursor().execute(query, [newest]).fetchall())

    def put(self, first: int, last: int, data: bytes) -> None:
        """Adds a segment, safely on the disk. Raises ``OSError``."""
        fresh = f"{first:010}-{last:010}.new"
        output = self._folder.create(fresh)
        try:
            output.write(self.keys.files.encrypt(data))
            output.sync()
        finally:
            output.close()
        self.adopt(fresh, first, last)

    def adopt(self, fresh: str, first: int, last: int) -> None:
        """Takes in a file that was written into the folder, in place of the segments within its numbers."""
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
        """Takes segments away for good."""
        with self._lock:
            self._segments = [one for one in self._segments if one not in segments]
            self._leaving += [one.name for one in segments]
        self._sweep()

    def _sweep(self) -> None:
        """Removes files nobody is in any more."""
        with self._lock:
            leaving, self._leaving = ([], self._leaving) if self._readers else (self._leaving, [])
        for name in leaving:
            self._folder.remove(name)

    @contextmanager
    def reading(self, since: int | None = None, until: int | None = None) -> Iterator[list[HistorySegment]]:
        """The segments with events in a stretch of time, whose files stay while they are read."""
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
