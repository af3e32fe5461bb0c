"""Snapshot schedule: a snapshot is saved part by part between batches and written by its own thread.

While a snapshot is in progress, each round of the monitor saves one part, so counting pauses only for the time of one
part. A full disk costs only that snapshot: earlier ones stay, and the next attempt follows on schedule.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from custodes._core import Engine
from custodes.log_events import SnapshotFailed, SnapshotFailedAgain, SnapshotsRecovered
from custodes.retry import Retry
from custodes.sources import StreamPosition, positions
from custodes.state.snapshots import Snapshots, SnapshotWriter

_AFTER_FAILURE = 5.0
"""Shortest delay before the next attempt, in seconds."""

_MOST_WAITING = 2
"""Largest number of sections waiting for the disk; each is held in memory until it is written."""


@dataclass
class _PendingSnapshot:
    """A snapshot in progress."""

    places: list[StreamPosition]
    taken_at: float
    writing: SnapshotWriter | None = None
    parts: int = 0
    steps: list[Future[None]] = field(default_factory=list)
    """Steps of the writing thread, in order."""

    def waiting(self) -> int:
        """Returns the number of steps that are not done."""
        return sum(not step.done() for step in self.steps)

    def failure(self) -> BaseException | None:
        """Returns the first error of the steps that are done."""
        return next((error for step in self.steps if step.done() and (error := step.exception())), None)


class Checkpoints:
    """Takes snapshots of an engine and the positions of its source."""

    def __init__(
        self,
        snapshots: Snapshots,
        interval: float,
        *,
        clock: Callable[[], float] = time.time,
        pace: Callable[[], float] = time.monotonic,
        thread: Executor | None = None,
        begins: Callable[[], None] = lambda: None,
        arrived: Callable[[], None] = lambda: None,
        still_ours: Callable[[], bool] = lambda: True,
    ) -> None:
        """``interval`` is in seconds. ``clock`` returns the time, ``pace`` counts seconds.

        ``begins`` is called before a snapshot begins and may raise ``OSError``. ``arrived`` is called by the writing
        thread before a snapshot is finished: it returns once all events that were sent before the snapshot began have
        arrived, and raises otherwise. ``still_ours`` is called after a snapshot is finished: earlier snapshots are
        removed only if no other worker has claimed them.
        """
        self._snapshots = snapshots
        self._interval = interval
        self._clock = clock
        self._pace = pace
        self._thread = thread or ThreadPoolExecutor(1, "snapshots")
        self._begins, self._arrived, self._still_ours = begins, arrived, still_ours
        self._underway: _PendingSnapshot | None = None
        self._due_at = pace()
        self._retry = Retry(min(_AFTER_FAILURE, interval), clock=pace)
        self.covered: set[int] = set()
        """Streams whose position the newest snapshot contains."""
        self.taken_at: float | None = None
        """Time at which the newest snapshot began, in epoch seconds."""

    @property
    def failures(self) -> int:
        """Number of failed snapshots since the last one that succeeded."""
        return self._retry.failures

    def went_on_from(self, places: list[StreamPosition], taken_at: float) -> None:
        """Records that the engine was restored from a snapshot."""
        self.covered = {place.stream for place in places if place.ours}
        self.taken_at = taken_at

    def step(self, engine: Engine, places: list[StreamPosition]) -> None:
        """Does the next step: begins a snapshot that is due, saves a part, or completes it.

        ``places`` are the current positions of the source. A snapshot is due at once if it would cover a stream that no
        snapshot covers yet.
        """
        underway = self._underway
        if underway is None:
            uncovered = any(place.ours and place.stream not in self.covered for place in places)
            if places and self._retry.is_due() and (uncovered or self._pace() >= self._due_at):
                self._begin(engine, places)
        elif (failure := underway.failure()) is not None:
            self._fail(failure)
        elif underway.parts < engine.parts():
            if underway.waiting() >= _MOST_WAITING:
                return
            self._add(underway, engine.save_part(underway.parts, positions(places)))
            underway.parts += 1
            self._finish_if_last(engine, underway)
        elif underway.waiting() == 0:
            self._succeed(underway)

    def _begin(self, engine: Engine, places: list[StreamPosition]) -> None:
        self._due_at = self._pace() + self._interval
        try:
            self._begins()
        except OSError as error:
            self._fail(error)
            return
        underway = self._underway = _PendingSnapshot(places, self._clock())
        self._add(underway, [engine.save_frame()])
        self._finish_if_last(engine, underway)

    def _add(self, underway: _PendingSnapshot, section: Sequence[bytes]) -> None:
        def add() -> None:
            if underway.writing is None:
                underway.writing = self._snapshots.begin()
            underway.writing.add(section)

        underway.steps.append(self._thread.submit(add))

    def _finish_if_last(self, engine: Engine, underway: _PendingSnapshot) -> None:
        if underway.parts == engine.parts():
            underway.steps.append(self._thread.submit(self._finish, underway))

    def _finish(self, underway: _PendingSnapshot) -> None:
        if underway.writing is not None and underway.failure() is None:
            self._arrived()
            underway.writing.finish(underway.taken_at, underway.places)
            if self._still_ours():
                self._snapshots.prune()

    def _succeed(self, underway: _PendingSnapshot) -> None:
        self._underway = None
        if self._retry.succeeded():
            SnapshotsRecovered().emit()
        self.covered = {place.stream for place in underway.places if place.ours}
        self.taken_at = underway.taken_at

    def _fail(self, failure: BaseException) -> None:
        # A disk can stay full for hours: only the first failure is logged as an error; a metric counts all of them.
        failed = SnapshotFailed if self._retry.failed() else SnapshotFailedAgain
        failed(error=f"{type(failure).__name__}: {failure}").emit()
        self._due_at = self._pace()
        self.drop()

    def forget(self, stream: int) -> None:
        """Records that a stream now belongs to another worker."""
        self.covered.discard(stream)
        self.drop()

    def drop(self) -> None:
        """Abandons the snapshot in progress, if any, because its parts no longer belong together."""
        underway, self._underway = self._underway, None
        if underway is None:
            return
        for step in underway.steps:
            step.cancel()

        def abandon() -> None:
            if underway.writing is not None:
                underway.writing.abandon()

        self._thread.submit(abandon)

    def take_now(self, engine: Engine, places: list[StreamPosition], within: float) -> None:
        """Takes a complete snapshot now, for example before the process ends; gives up after ``within`` seconds."""
        self.drop()
        if not places:
            return
        self._due_at = self._pace()
        self._retry.succeeded()
        self.step(engine, places)
        until = time.monotonic() + within
        while (underway := self._underway) is not None:
            if wait(underway.steps, timeout=max(0.0, until - time.monotonic())).not_done:
                self._fail(TimeoutError(f"the snapshot was not written within {within:.0f} s"))
                return
            self.step(engine, places)

    def close(self) -> None:
        self._thread.shutdown()
