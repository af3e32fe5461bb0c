"""Writing the history to the disk.

The monitor passes on what the engine recorded; a thread writes it. A snapshot begins only after all earlier events are
on the disk, so a crash loses nothing: later events are replayed, recorded again, and written once.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import duckdb

from custodes._core import Recording, encode_history
from custodes.history.compaction import merge, mergeable
from custodes.history.segments import SegmentStore
from custodes.log_events import (
    HistoryCompactionAtNormalPriority,
    HistoryCompactionFailed,
    HistoryFailed,
    HistoryNotFlushed,
    HistoryRecovered,
)

_SEGMENT_ROWS = 250_000
"""Number of waiting rows at which a segment is written."""
_MOST_WAITING = 2_000_000
"""Largest number of rows that wait for a failing disk; further rows are dropped and counted."""
_MOST_UNDERWAY = 4
"""Largest number of segments being written before counting waits."""

_PARTS_KEPT = 16
"""A segment is deleted by its newest event; a merged segment spans at most this fraction of the retention."""

_REST_SECONDS = 20e-6
"""Pause before a merge, in seconds per row: ten times the duration of the merge, so that counting is barely slowed."""

_SegmentPart = tuple[str, int, Recording]


class HistoryWriter:
    """Writes one history. :meth:`take` is called by the monitor, all other methods by any thread."""

    def __init__(
        self,
        shelf: SegmentStore,
        keep: timedelta,
        *,
        segment_rows: int = _SEGMENT_ROWS,
        most_waiting: int = _MOST_WAITING,
    ) -> None:
        """``keep`` is the age, relative to the newest event, at which events are deleted."""
        self._shelf = shelf
        self._segment_rows, self._most_waiting = segment_rows, most_waiting
        self._keep = keep // timedelta(microseconds=1)
        self._lock = threading.RLock()
        self._waiting: list[_SegmentPart] = []
        self._waiting_rows = 0
        self._underway: list[Future[None]] = []
        self._number = shelf.next_number
        self._written = shelf.come_to()
        self._writer = ThreadPoolExecutor(1, "history")
        self._merger = ThreadPoolExecutor(1, "history-merge", initializer=_give_way)
        self.is_failing = False
        """Whether the last attempt to write failed."""
        self._is_closing = threading.Event()
        self.taken = 0
        """Number of rows received since the start."""
        self.written = 0
        """Number of received rows that are on the disk."""
        self.lost = 0
        """Number of rows dropped because the disk failed for too long."""

    def take(self, source: str, recording: Recording) -> None:
        """Receives the events of a batch. ``source`` names the stream, identically in every process."""
        with self._lock:
            if self._waiting_rows >= self._most_waiting:
                self.lost += len(recording)
                return
            self._waiting.append((source, self._written.get(source, 0), recording))
            self._waiting_rows += len(recording)
            self.taken += len(recording)
            if self._waiting_rows < self._segment_rows or self.is_failing:
                return
            self._seal()
            oldest = self._underway[0] if len(self._underway) > _MOST_UNDERWAY else None
        if oldest is not None:
            oldest.exception()

    def flush(self) -> None:
        """Returns once all received rows are on the disk. Raises ``OSError`` if they cannot be written."""
        with self._lock:
            self._seal()
            underway = list(self._underway)
        for writing in underway:
            writing.result()

    @property
    def waiting_rows(self) -> int:
        """Number of rows that wait for a full segment, or for the disk."""
        with self._lock:
            return self._waiting_rows

    @property
    def is_behind(self) -> bool:
        """Whether received rows are not visible to queries yet."""
        with self._lock:
            return bool(self._waiting) or not all(writing.done() for writing in self._underway)

    def _seal(self) -> None:
        self._underway = [writing for writing in self._underway if not writing.done()]
        if self._waiting:
            parts, self._waiting, self._waiting_rows = self._waiting, [], 0
            number, self._number = self._number, self._number + 1
            self._underway.append(self._writer.submit(self._write, number, parts))

    def _write(self, number: int, parts: list[_SegmentPart]) -> None:
        try:
            self._shelf.put(number, number, encode_history(parts))
        except (OSError, duckdb.Error) as error:
            with self._lock:
                # These rows come first again; rows received since follow.
                self._waiting = parts + self._waiting
                self._waiting_rows += sum(len(recording) for _, _, recording in parts)
                if not self.is_failing:
                    HistoryFailed(error=str(error)).emit()
                self.is_failing = True
            raise OSError(f"the history cannot be written: {error}") from error
        self.written += sum(len(recording) for _, _, recording in parts)
        if self.is_failing:
            self.is_failing = False
            HistoryRecovered().emit()
        self._merger.submit(self._tidy)

    def _tidy(self) -> None:
        """Deletes expired segments and merges others."""
        try:
            self._let_go()
            while row := mergeable(self._shelf.segments, self._keep // _PARTS_KEPT):
                if self._is_closing.wait(sum(one.rows for one in row) * _REST_SECONDS):
                    return
                merge(self._shelf, row)
                # Under load there is always something to merge, and retention must not wait for that.
                self._let_go()
        except (OSError, duckdb.Error) as error:
            # Nothing is lost; queries open more files.
            HistoryCompactionFailed(error=str(error)).emit()

    def _let_go(self) -> None:
        segments = self._shelf.segments
        newest = max((one.newest for one in segments), default=0)
        if gone := [one for one in segments if one.newest < newest - self._keep]:
            self._shelf.drop(gone)

    def wait_until_compacted(self) -> None:
        """Returns once the merges of all segments written so far are done."""
        self._merger.submit(lambda: None).result()

    def close(self) -> None:
        """Writes waiting rows if the disk allows."""
        try:
            self.flush()
        except OSError as error:
            HistoryNotFlushed(error=str(error)).emit()
        self._is_closing.set()
        self._writer.shutdown()
        self._merger.shutdown(cancel_futures=True)
        self._shelf.close()


def _give_way() -> None:
    """Gives this thread the lowest priority, if the system permits it; it holds no lock that others wait for."""
    if sys.platform != "linux":
        return
    try:
        # Linux gives every thread its own priority.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
    except OSError as error:
        HistoryCompactionAtNormalPriority(error=str(error)).emit()


REFRESH_SECONDS = 1.0


class Freshness:
    """Writes received rows before a query, but not for every query."""

    def __init__(self, writer: HistoryWriter) -> None:
        self._writer = writer
        self._flushed_at = float("-inf")
        self._lock = threading.Lock()

    def ensure(self) -> None:
        """Ensures that rows older than a second are on the disk, if the disk allows."""
        with self._lock:
            if not self._writer.is_behind or time.monotonic() - self._flushed_at < REFRESH_SECONDS:
                return
            # A failing disk is in the log; the query is answered from the rows on the disk.
            with suppress(OSError):
                self._writer.flush()
            self._flushed_at = time.monotonic()
