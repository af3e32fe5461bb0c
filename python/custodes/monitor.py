"""The monitor: source → engine → findings, metrics and dead letters, round and round until told to stop."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import structlog

from custodes._core import Engine, FindingChange, Outcome, Stats
from custodes.feed import Feed
from custodes.findings import Finding, Missed
from custodes.findings.store import FindingStore, StoreError
from custodes.metrics import Metrics
from custodes.rules import Rule
from custodes.sources import Arrival, Gap, Left, Source, positions
from custodes.sources.dead_letters import DeadLetters
from custodes.state import Checkpoints, tell_of_dropped

log = structlog.get_logger("custodes.monitor")

POLL_SECONDS = 0.25
STATE_SECONDS = 1.0
"""How often gauges and findings that only grew are brought up to date, and offsets are committed."""


@dataclass(frozen=True)
class Status:
    """How the monitor stands, for the console and the API."""

    source: str
    at: float
    """The monitor's clock when this was written, in epoch seconds."""
    ready: bool
    finished: bool
    started_at: float
    events: int
    rejected: int
    late: int
    events_per_second: float
    lag_records: int
    watermark: int | None
    newest: int | None
    open_findings: int
    streams: int
    engine_bytes: int
    snapshot_at: float | None
    """When the last snapshot was begun, in epoch seconds."""


RETRY_SECONDS = 1.0
"""How soon a database that refused is asked again."""


@dataclass
class _Unstored:
    """What waits for a database that refuses."""

    changes: list[FindingChange] = field(default_factory=list)
    gaps: list[Missed] = field(default_factory=list)
    retry_at: float = 0.0
    failing: bool = False

    def __len__(self) -> int:
        return len(self.changes) + len(self.gaps)


@dataclass
class _Totals:
    events: int = 0
    rejected: int = 0
    late: int = 0
    recent: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=11))

    def rate(self) -> float:
        if len(self.recent) < 2:
            return 0.0
        (start, first), (end, last) = self.recent[0], self.recent[-1]
        return (last - first) / (end - start) if end > start else 0.0


class Monitor:
    """Owns the loop. :meth:`run` blocks; :attr:`status` may be read from any thread."""

    def __init__(
        self,
        engine: Engine,
        rules: Sequence[Rule],
        source: Source,
        store: FindingStore,
        dead_letters: DeadLetters,
        metrics: Metrics,
        feed: Feed,
        *,
        checkpoints: Checkpoints | None = None,
        on_news: Callable[[str, Finding], None] = lambda kind, finding: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``on_news`` hears of each finding that opens or closes; ``clock`` is in epoch seconds.

        Without ``checkpoints`` a restart begins with empty windows after what was committed.
        """
        self.rules = rules
        self.store = store
        self.metrics = metrics
        self.feed = feed
        self._engine = engine
        self._source = source
        self._dead_letters = dead_letters
        self._checkpoints = checkpoints
        self._on_news = on_news
        self._clock = clock
        self._totals = _Totals()
        self._unstored = _Unstored()
        self._wanted: queue.SimpleQueue[tuple[str, Sequence[Rule], int, Future[None]]] = queue.SimpleQueue()
        self._open_by_rule: dict[str, int] = {}
        self._streams: set[int] = set()
        self._started_at = clock()
        self._state_at = 0.0
        self.last_poll = time.monotonic()
        self.failure: BaseException | None = None
        self.status = self._status(engine.stats(), lag=0, open_findings=0)

    def run(self, stop: threading.Event) -> None:
        """Runs until the source ends or ``stop`` is set. What was read by then has been dealt with, and saved."""
        try:
            while not stop.is_set() and not self._source.finished:
                self.step(POLL_SECONDS)
            if self._source.finished:
                self._deal_with(self._engine.finish(), {}, time.perf_counter())
            self._tell(self._store([]))
            if self._checkpoints is not None and not self._unstored:
                self._checkpoints.take_now(self._engine, self._source.places())
            self._commit()
        except BaseException as error:
            self.failure = error
            raise
        finally:
            self._refresh()
            self.feed.publish()

    def step(self, timeout: float) -> None:
        """One round: poll, count, store; and once a second commit."""
        self._change_rules()
        for arrival in self._source.poll(timeout):
            self._take(arrival)
        if self._unstored:
            self._tell(self._store([]))
        # A snapshot must not have counted what is not stored.
        if self._checkpoints is not None and not self._unstored:
            self._checkpoints.step(self._engine, self._source.places())
        self.last_poll = time.monotonic()
        self.metrics.up_to_date.set(self._clock())
        if self.last_poll - self._state_at >= STATE_SECONDS:
            self._commit()
            self._refresh()
            self.feed.publish()

    def change_rules(self, plan: str, rules: Sequence[Rule], threads: int = 1, timeout: float = 60.0) -> None:
        """Goes on with other rules, between two rounds; those that stay keep their windows. For other threads.

        Raises ``ValueError`` for a plan that cannot be run, and ``TimeoutError``; the rules stay as they were.
        """
        done: Future[None] = Future()
        self._wanted.put((plan, rules, threads, done))
        done.result(timeout)

    def _change_rules(self) -> None:
        while not self._wanted.empty():
            plan, rules, threads, done = self._wanted.get()
            # What grew is told of by rules as they were.
            if not self._store_growth():
                done.set_exception(ValueError("findings wait for the database; try again when they are stored"))
                continue
            try:
                changed = self._engine.replanned(plan, positions(self._source.places()), threads)
                engine, windows, decisions, left_open = changed
                self.store.close_left_open(left_open)
            except (ValueError, StoreError) as error:
                done.set_exception(error if isinstance(error, ValueError) else ValueError(str(error)))
                continue
            tell_of_dropped(windows, decisions, [*self.rules, *rules])
            self._engine, self.rules = engine, rules
            self.metrics.change_rules(rules)
            if self._checkpoints is not None:
                self._checkpoints.drop()
            self._refresh()
            done.set_result(None)

    def _commit(self) -> None:
        """Stores findings that only grew, and then says that all that was read has been dealt with.

        Not of streams that no snapshot covers yet: after a restart their windows would begin empty behind it.
        """
        if self._store_growth():
            self._source.commit(None if self._checkpoints is None else self._checkpoints.covered)

    def _store_growth(self) -> bool:
        """Stores findings that only grew. Returns whether nothing is left to be stored."""
        if not self._unstored and (updates := self._engine.updates()):
            try:
                self.store.refresh(updates, self.rules)
            except StoreError as error:
                self._unstored.changes += updates
                self._refused(error)
        return not self._unstored

    def _take(self, arrival: Arrival) -> None:
        begun = time.perf_counter()
        if isinstance(arrival, Left):
            self._streams.discard(arrival.stream)
            if self._checkpoints is not None:
                self._checkpoints.forget(arrival.stream)
        else:
            self._streams.add(arrival.stream)
        if isinstance(arrival, Gap):
            self._tell_of(arrival)
        outcome = arrival.feed(self._engine, int(self._clock() * 1e6))
        if outcome is not None:
            self._deal_with(outcome, self._source.describe(arrival.stream), begun)

    def _tell_of(self, gap: Gap) -> None:
        """Makes it known, and keeps it, that events were never seen."""
        place = self._source.describe(gap.stream)
        self._unstored.gaps.append(Missed.of(gap, place, int(self._clock() * 1e6)))
        self._tell(self._store([]))
        self.metrics.missed.inc(gap.missed)
        if gap.missed:
            log.error("records were never seen: they were gone before they were read", records=gap.missed, **place)
        else:
            log.error("the source has fewer records than were read from it; reading it anew", **place)

    def _deal_with(self, outcome: Outcome, place: dict[str, str | int], begun: float) -> None:
        if outcome.rejects:
            for reject in outcome.rejects:
                self._dead_letters.put(reject, place)
            self._dead_letters.flush()
        news = self._store(outcome.changes)
        self._totals.events += outcome.events
        self._totals.rejected += len(outcome.rejects)
        self._totals.late += outcome.late
        self.metrics.batch(outcome, time.perf_counter() - begun)
        self._tell(news)

    def _store(self, changes: Sequence[FindingChange]) -> list[tuple[str, Finding]]:
        """Stores changes behind those that wait. Returns what is new to the store; nothing while it refuses."""
        unstored = self._unstored
        unstored.changes += changes
        if not unstored or (unstored.failing and time.monotonic() < unstored.retry_at):
            return []
        try:
            while unstored.gaps:
                self.store.record_gap(unstored.gaps[0])
                unstored.gaps.pop(0)
            news = self.store.apply(unstored.changes, self.rules) if unstored.changes else []
            unstored.changes.clear()
        except StoreError as error:
            self._refused(error)
            return []
        if unstored.failing:
            unstored.failing = False
            log.info("findings can be stored again")
        return news

    def _refused(self, error: StoreError) -> None:
        """The database refused: what it was given waits, and nothing is committed or saved meanwhile."""
        if not self._unstored.failing:
            cause = str(error).partition("\n")[0]
            log.error("findings cannot be stored; they wait, and counting goes on", error=cause)
        self._unstored.failing = True
        self._unstored.retry_at = time.monotonic() + RETRY_SECONDS

    def _tell(self, news: Sequence[tuple[str, Finding]]) -> None:
        told = [(kind, finding) for kind, finding in news if kind != "updated"]
        for kind, finding in told:
            self.metrics.news(kind, finding)
            self._on_news(kind, finding)
        if told:
            self.feed.publish()

    def _refresh(self) -> None:
        """Brings gauges and status up to date."""
        now = self._clock()
        self._state_at = time.monotonic()
        self._totals.recent.append((self._state_at, self._totals.events))
        try:
            self._open_by_rule = self.store.open_counts()
        except StoreError as error:
            self._refused(error)
        open_by_rule = self._open_by_rule
        self.metrics.findings_waiting.set(len(self._unstored))
        self.metrics.connected.set(self._source.connected)
        stats, lag = self._engine.stats(), self._source.lag()
        self.metrics.state(stats, open_by_rule, len(self._streams), lag, now)
        if self._checkpoints is not None:
            self.metrics.snapshots(self._checkpoints.taken_at, self._checkpoints.failures, now)
        self.status = self._status(stats, lag, sum(open_by_rule.values()))

    def _status(self, stats: Stats, lag: int, open_findings: int) -> Status:
        totals = self._totals
        return Status(
            source=self._source.name,
            at=self._clock(),
            ready=bool(self._streams) and self.failure is None,
            finished=self._source.finished,
            started_at=self._started_at,
            events=totals.events,
            rejected=totals.rejected,
            late=totals.late,
            events_per_second=totals.rate(),
            lag_records=lag,
            watermark=stats.watermark,
            newest=stats.newest,
            open_findings=open_findings,
            streams=len(self._streams),
            engine_bytes=stats.bytes,
            snapshot_at=None if self._checkpoints is None else self._checkpoints.taken_at,
        )
