"""What is recorded of every event, on its way to the disk.

The monitor hands over what the engine recorded; a thread writes it. A snapshot is begun only when all that came before
it is on the disk, so that a crash loses nothing: what came after is heard, and recorded, once more, and written once.
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
from custodes.log_events import HistoryCompactionFailed, HistoryFailed, HistoryNotFlushed, HistoryRecovered

_SEGMENT_ROWS = 250_000
"""A segment is written when so many rows wait for it."""
_MOST_WAITING = 2_000_000
"""Rows that wait for a disk that refuses; more are given up, and counted."""
_MOST_UNDERWAY = 4
"""Segments that may be on their way to the disk before counting waits."""

_PARTS_KEPT = 16
"""A segment goes with its newest event; a merged one has at most such a part of the time that events are kept."""

_REST_SECONDS = 20e-6
"""Rest before a merge, for each of its rows: ten times what merging it takes, so that counting hardly feels it."""

_SegmentPart = tuple[str, int, Recording]


class HistoryWriter:
    """Writes one history. :meth:`take` and :meth:`begin_anew` are the monitor's; the others any thread's."""

    def __init__(
        self,
        shelf: SegmentStore,
        keep: timedelta,
        *,
        segment_rows: int = _SEGMENT_ROWS,
        most_waiting: int = _MOST_WAITING,
    ) -> None:
        """``keep`` is how long before the newest event others are kept."""
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
        self._is_failing = False
        self._is_closing = threading.Event()
        self.taken = 0
        """Rows taken in since the start."""
        self.written = 0
        """Of these, how many of the first are on the disk."""
        self.lost = 0
        """Rows given up because the disk refused for too long."""

    def take(self, source: str, recording: Recording) -> None:
        """Takes in the events of a batch. ``source`` names its stream, the same in every process."""
        with self._lock:
            if self._waiting_rows >= self._most_waiting:
                self.lost += len(recording)
                return
            self._waiting.append((source, self._written.get(source, 0), recording))
            self._waiting_rows += len(recording)
            self.taken += len(recording)
            if self._waiting_rows < self._segment_rows or self._is_failing:
                return
            self._seal()
            oldest = self._underway[0] if len(self._underway) > _MOST_UNDERWAY else None
        if oldest is not None:
            oldest.exception()

    def begin_anew(self, source: str) -> None:
        """A stream starts over: its positions are others now."""
        with self._lock:
            self._written.pop(source, None)

    def flush(self) -> None:
        """Returns once all that was taken is on the disk. Raises ``OSError`` if it cannot be put there."""
        with self._lock:
            self._seal()
            underway = list(self._underway)
        for writing in underway:
            writing.result()

    @property
    def waiting_rows(self) -> int:
        """How many rows wait for more of them, or for the disk."""
        with self._lock:
            return self._waiting_rows

    @property
    def is_behind(self) -> bool:
        """Whether something was taken that no question finds yet."""
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
                # They are first again; what came since is after them.
                self._waiting = parts + self._waiting
                self._waiting_rows += sum(len(recording) for _, _, recording in parts)
                if not self._is_failing:
                    HistoryFailed(error=str(error)).emit()
                self._is_failing = True
            raise OSError(f"the history cannot be written: {error}") from error
        self.written += sum(len(recording) for _, _, recording in parts)
        if self._is_failing:
            self._is_failing = False
            HistoryRecovered().emit()
        self._merger.submit(self._tidy)

    def _tidy(self) -> None:
        """Lets go of what has been kept for long enough, and merges what can be."""
        try:
            self._let_go()
            while row := mergeable(self._shelf.segments, self._keep // _PARTS_KEPT):
                if self._is_closing.wait(sum(one.rows for one in row) * _REST_SECONDS):
                    return
                merge(self._shelf, row)
                # Where much comes there is always something to merge, and retention is not to wait for that.
                self._let_go()
        except (OSError, duckdb.Error) as error:
            # Nothing is lost by it; there are more files to look into.
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
        """Writes what waits, as far as the disk lets it."""
        try:
            self.flush()
        except OSError as error:
            HistoryNotFlushed(error=str(error)).emit()
        self._is_closing.set()
        self._writer.shutdown()
        self._merger.shutdown(cancel_futures=True)
        self._shelf.close()


def _give_way() -> None:
    """Has this thread run where no other wants to: what it does holds no lock that others wait for."""
    if sys.platform == "linux":
        # There, and only there, threads have priorities of their own.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


REFRESH_SECONDS = 1.0


class Freshness:
    """Has what was taken written before a question, but not for every one."""

    def __init__(self, writer: HistoryWriter) -> None:
        self._writer = writer
        self._flushed_at = float("-inf")
        self._lock = threading.Lock()

    def ensure(self) -> None:
        """What is older than a second is on the disk afterwards, where the disk takes it."""
        with self._lock:
            if not self._writer.is_behind or time.monotonic() - self._flushed_at < REFRESH_SECONDS:
                return
            # A disk that refuses is in the log, and a question is answered with what there is.
            with suppress(OSError):
                self._writer.flush()
            self._flushed_at = time.monotonic()
