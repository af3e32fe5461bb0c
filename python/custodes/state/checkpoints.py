"""When snapshots are taken: part by part between batches, written by a thread of its own.

While one is under way each round of the monitor saves one part, so counting pauses for no longer than that takes. A
disk without room costs that snapshot and nothing else: the ones before stay, the next is tried in its time.
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
"""Seconds until the next try, at least."""

_MOST_WAITING = 2
"""Sections that may wait for the disk: what is saved is held in memory until it is written."""


@dataclass
class _PendingSnapshot:
    """A snapshot that is being taken."""

    places: list[StreamPosition]
    taken_at: float
    writing: SnapshotWriter | None = None
    parts: int = 0
    steps: list[Future[None]] = field(default_factory=list)
    """What the thread does for it, in order."""

    def waiting(self) -> int:
        """Steps not done yet."""
        return sum(not step.done() for step in self.steps)

    def failure(self) -> BaseException | None:
        """What went wrong in the steps done so far."""
        return next((error for step in self.steps if step.done() and (error := step.exception())), None)


class Checkpoints:
    """Takes snapshots of an engine and its source."""

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
        """``interval`` is in seconds. ``clock`` says what time it is, ``pace`` counts seconds.

        ``begins`` is called before one is begun, and may raise ``OSError``. ``arrived`` is called by the thread before
        one is finished: it returns once all that was handed on before it began has arrived, and raises if it has not.
        ``still_ours`` is asked when one is finished: those before it are only removed while nobody else has claimed
        them to go on from.
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
        """The streams that a restart would know where to begin in."""
        self.taken_at: float | None = None
        """When the newest snapshot was begun, in epoch seconds."""

    @property
    def failures(self) -> int:
        """Number of failed snapshots since the last one that succeeded."""
        return self._retry.failures

    def went_on_from(self, places: list[StreamPosition], taken_at: float) -> None:
        """The engine is one that was restored."""
        self.covered = {place.stream for place in places if place.ours}
        self.taken_at = taken_at

    def step(self, engine: Engine, places: list[StreamPosition]) -> None:
        """Does what is next: begins a snapshot when one is due, saves a part, or sees it finished.

        ``places`` are the source's now. One is due at once where a stream is not covered yet.
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
        """A stream is somebody else's now."""
        self.covered.discard(stream)
        self.drop()

    def drop(self) -> None:
        """Gives up the snapshot under way, if there is one: what it was to hold together no longer does."""
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
        """Takes one from start to end, as when the process is about to end; gives up after ``within`` seconds."""
        self.drop()
        if not places:
            return
        self._due_at = self._pace()
        self._retry.succeeded()
        self.step(engine, places)
        until = time.monotonic() + within
        while (underway := self._underway) is not None:
            if wait(underway.steps, timeout=max(0.0, until - time.monotonic())).not_done:
                self._fail(TimeoutError(f"it was not written within {within:.0f} s"))
                return
            self.step(engine, places)

    def close(self) -> None:
        self._thread.shutdown()
