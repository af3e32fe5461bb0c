"""The monitor: source → engine → findings, metrics and dead letters, round and round until told to stop."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from custodes._core import Outcome
from custodes.findings import Finding, MissedRecords
from custodes.findings.store import FencedError, FindingStore, StoreError
from custodes.history import HistoryWriter
from custodes.log_events import (
    DatabaseFailed,
    DatabaseRecovered,
    DeadLettersFailed,
    DeadLettersRecovered,
    RecordsMissed,
    SourceReset,
    cause_of,
)
from custodes.retry import Retry
from custodes.rules import Rule, Ruleset
from custodes.runtime.change_notifier import ChangeNotifier
from custodes.runtime.limits import Limits
from custodes.runtime.metrics import Metrics
from custodes.runtime.stats import TaskStats
from custodes.runtime.task import Task, TaskSet
from custodes.sources import EventSource, RepartitionRecords, StreamGap, StreamLeft
from custodes.sources.dead_letters import DeadLetters, Letter
from custodes.sources.messages import SourceMessage

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


SAVE_SECONDS = 8.0
"""How long saving may take at the end, or before partitions go. What is not saved is heard again."""
RETRY_SECONDS = 1.0
"""How soon a database that refused is asked again."""
_MOST_RETRY_SECONDS = 30.0
"""How long at most until dead letters are tried again."""


@dataclass
class _Database:
    """How things are with a database that may refuse, and gaps that wait for it."""

    gaps: list[MissedRecords] = field(default_factory=list)
    retry: Retry = field(default_factory=lambda: Retry(RETRY_SECONDS))
    counted: int = 0
    """Events since it was last given what waited for it."""


@dataclass
class _PendingDeadLetters:
    """Dead letters that are not safe yet."""

    waiting: list[Letter] = field(default_factory=list)
    retry: Retry = field(default_factory=lambda: Retry(2 * RETRY_SECONDS, _MOST_RETRY_SECONDS))


_MOST_UNSTORED = 50_000
"""After so many events what came of them is stored and told, in mid-round, too: a twentieth of a second's."""
_MOST_LETTERS = 10_000
"""With so many waiting nothing more is read: they are kept in memory."""


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
        work: TaskSet,
        rules: Sequence[Rule],
        source: EventSource,
        store: FindingStore,
        dead_letters: DeadLetters,
        metrics: Metrics,
        feed: ChangeNotifier,
        *,
        memory: int | None = None,
        history: HistoryWriter | None = None,
        on_news: Callable[[str, Finding], None] = lambda kind, finding: None,
        on_status: Callable[[Status], None] = lambda status: None,
        clock: Callable[[], float] = time.time,
        pace: Callable[[], float] = time.monotonic,
    ) -> None:
        """``memory`` is the most that windows may hold, in bytes; ``None`` sets no bound.

        ``history`` is given what the engine records. ``on_news`` hears of each finding that opens or closes,
        ``on_status`` once a second how things stand.
        ``clock`` is in epoch seconds. ``pace`` is in seconds on any scale that only advances.
        """
        self.rules = rules
        self.store = store
        self.metrics = metrics
        self.feed = feed
        self._work = work
        self._source = source
        self._dead_letters = dead_letters
        self._on_news = on_news
        self._on_status = on_status
        self._clock = clock
        self._totals = _Totals()
        self._database = _Database()
        self._letters = _PendingDeadLetters()
        self._history = history
        self._limits = Limits(memory, metrics, clock)
        self._wanted: queue.SimpleQueue[tuple[Ruleset, int, Future[None]]] = queue.SimpleQueue()
        self._open_by_rule: dict[str, int] = {}
        self._streams: set[int] = set()
        self._started_at = clock()
        self._pace = pace
        self._state_at = float("-inf")
        self.last_poll = time.monotonic()
        self.failure: BaseException | None = None
        self.has_ended = False
        self.figures = TaskStats.of(work.tasks())
        """How tasks stood when it last looked."""
        self.status = self._status(self.figures, lag=0, open_findings=0)

    def run(self, stop: threading.Event) -> None:
        """Runs until the source ends or ``stop`` is set. What was read by then has been dealt with, and saved."""
        try:
            while not stop.is_set() and not self._source.finished:
                self.step(POLL_SECONDS)
            if self._source.finished:
                self.finish()
            self._letters.retry.retry_now()
            self._write_letters()
            self.save(self._work.tasks())
            self.commit()
        except BaseException as error:
            self.failure = error
            raise
        finally:
            self.has_ended = True
            self._refresh()
            self.feed.publish()

    def finish(self) -> None:
        """Takes what the tasks still hold back once their source has ended."""
        for task, outcome in self._work.finish():
            self._deal_with(task, outcome, {}, time.perf_counter())

    def step(self, timeout: float) -> None:
        """One round: poll, count, store; and once a second commit."""
        self._change_rules()
        if len(self._letters.waiting) < _MOST_LETTERS:
            for arrival in self._source.poll(timeout):
                self._take(arrival)
        else:
            time.sleep(timeout)
        self._write_letters()
        self._work.settle()
        if self._waiting():
            self.store_waiting()
        for task in self._work.tasks():
            # A snapshot must not have counted what is not stored, nor be past a record that was refused and not kept.
            may_be_saved = not task.unstored and not self._database.gaps and not self._letters.waiting
            if task.checkpoints is not None and may_be_saved:
                task.checkpoints.step(task.engine, task.places())
        self.last_poll = time.monotonic()
        self.metrics.up_to_date.set(self._clock())
        if self._pace() - self._state_at >= STATE_SECONDS:
            self.commit()
            self._refresh()
            self.feed.publish()

    def save(self, tasks: Iterable[Task]) -> None:
        """Takes a snapshot of each task, whole: the process is about to end, or the task to be another's."""
        until = time.monotonic() + SAVE_SECONDS
        self.store_waiting()
        for task in tasks:
            within = until - time.monotonic()
            if within > 0 and self._store_growth(task) and not self._letters.waiting and task.checkpoints is not None:
                task.checkpoints.take_now(task.engine, task.places(), within)

    def change_rules(self, ruleset: Ruleset, threads: int = 1, timeout: float = 60.0) -> None:
        """Goes on with other rules, between two rounds; those that stay keep their windows. For other threads.

        Raises ``ValueError`` for rules that cannot be run, and ``TimeoutError``; the rules stay as they were.
        """
        done: Future[None] = Future()
        self._wanted.put((ruleset, threads, done))
        done.result(timeout)

    def _change_rules(self) -> None:
        while not self._wanted.empty():
            ruleset, threads, done = self._wanted.get()
            # What grew is told of by rules as they were.
            if not self._store_all_growth():
                done.set_exception(ValueError("findings wait for the database; try again when they are stored"))
                continue
            try:
                self.store.close_left_open(self._work.replan(ruleset, threads))
            except (ValueError, StoreError) as error:
                done.set_exception(error if isinstance(error, ValueError) else ValueError(str(error)))
                continue
            self.rules = ruleset.rules
            self.metrics.change_rules(ruleset.rules)
            self._refresh()
            done.set_result(None)

    def commit(self) -> None:
        """Stores findings that only grew, and then says that all that was read has been dealt with.

        Not of streams that no snapshot covers yet: after a restart their windows would begin empty behind it.
        """
        if self._store_all_growth() and not self._letters.waiting:
            self._source.commit(self._work.covered())

    def _store_all_growth(self) -> bool:
        for task in self._work.tasks():
            self._store_growth(task)
        return not self._waiting()

    def _store_growth(self, task: Task) -> bool:
        """Stores findings that only grew. Returns whether nothing is left to be stored."""
        if not self._waiting() and (updates := task.engine.updates()):
            try:
                self.store.refresh(updates, task.rules, task.claim)
            except FencedError:
                self._work.lost(task)
                return False
            except StoreError as error:
                task.unstored += updates
                self._refused(error)
        return not self._waiting()

    def _take(self, arrival: SourceMessage | RepartitionRecords) -> None:
        begun = time.perf_counter()
        if isinstance(arrival, StreamLeft):
            # Its task may go with it, and what came of it must not.
            self.store_waiting()
            self._streams.discard(arrival.stream)
        else:
            self._streams.add(arrival.stream)
        if isinstance(arrival, StreamGap):
            place = self._source.describe(arrival.stream)
            self.tell_of(arrival, place)
            if self._history is not None and arrival.position < arrival.expected:
                self._history.begin_anew(_name_of(place))
        for task, outcome in self._work.take(arrival, int(self._clock() * 1e6)):
            self._deal_with(task, outcome, self._source.describe(arrival.stream), begun)
        self._limits.keep(self._work.tasks())

    def tell_of(self, gap: StreamGap, place: dict[str, str | int]) -> None:
        """Makes it known, and keeps it, that events were never seen."""
        self._database.gaps.append(MissedRecords.of(gap, place, int(self._clock() * 1e6)))
        self.store_waiting()
        self.metrics.missed.inc(gap.missed)
        if gap.missed:
            RecordsMissed(records=gap.missed, place=place).emit()
        else:
            SourceReset(place=place).emit()

    def _deal_with(self, task: Task, outcome: Outcome, place: dict[str, str | int], begun: float) -> None:
        self._letters.waiting += [Letter(reject, place) for reject in outcome.rejects]
        self._write_letters()
        task.unstored += outcome.changes
        self._database.counted += outcome.events
        # A round may bring many batches with a change or two each; transactions for all would take as long as counting.
        if self._database.counted >= _MOST_UNSTORED:
            self.store_waiting()
        if task.reads_events:
            self._totals.events += outcome.events
            self._totals.rejected += len(outcome.rejects)
            self._totals.late += outcome.late
            if self._history is not None and place and len(outcome.recording):
                self._history.take(_name_of(place), outcome.recording)
            self.metrics.batch(outcome, time.perf_counter() - begun)

    def retry_now(self) -> None:
        """Makes the next attempts to reach the database and the dead letters due at once."""
        self._database.retry.retry_now()
        self._letters.retry.retry_now()

    def _write_letters(self) -> None:
        """Writes dead letters. Where they cannot be, they wait, and nothing is committed or saved behind them."""
        letters = self._letters
        if not letters.waiting or not letters.retry.is_due():
            return
        try:
            self._dead_letters.write(letters.waiting)
        except OSError as error:
            if letters.retry.failed():
                DeadLettersFailed(error=cause_of(error)).emit()
            return
        letters.waiting = []
        if letters.retry.succeeded():
            DeadLettersRecovered().emit()

    def store_waiting(self) -> None:
        """Stores what waits for the database, unless it refuses, and tells of what is new."""
        self.tell(self._store())

    def _waiting(self) -> int:
        """How much waits for the database."""
        return len(self._database.gaps) + sum(len(task.unstored) for task in self._work.tasks())

    def _store(self) -> list[tuple[str, Finding]]:
        """Stores what waits. Returns what is new to the store; nothing while it refuses."""
        database = self._database
        database.counted = 0
        if not self._waiting() or not database.retry.is_due():
            return []
        news: list[tuple[str, Finding]] = []
        try:
            while database.gaps:
                self.store.record_gap(database.gaps[0])
                database.gaps.pop(0)
            for task in self._work.tasks():
                if task.unstored:
                    news += self._store_changes(task)
        except StoreError as error:
            self._refused(error)
            return news
        if database.retry.succeeded():
            DatabaseRecovered().emit()
        return news

    def _store_changes(self, task: Task) -> list[tuple[str, Finding]]:
        try:
            news = self.store.apply(task.unstored, task.rules, task.claim)
        except FencedError:
            self._work.lost(task)
            return []
        task.unstored.clear()
        return news

    def _refused(self, error: StoreError) -> None:
        """The database refused: what it was given waits, and nothing is committed or saved meanwhile."""
        if self._database.retry.failed():
            DatabaseFailed(error=cause_of(error)).emit()

    def tell(self, news: Sequence[tuple[str, Finding]]) -> None:
        told = [(kind, finding) for kind, finding in news if kind != "updated"]
        for kind, finding in told:
            self.metrics.news(kind, finding)
            self._on_news(kind, finding)
        if told:
            self.feed.publish()

    def _refresh(self) -> None:
        """Brings gauges and status up to date."""
        now = self._clock()
        self._state_at = self._pace()
        self._totals.recent.append((self._state_at, self._totals.events))
        tasks = self._work.tasks()
        figures, lag = TaskStats.of(tasks), self._source.lag()
        try:
            # What others tell of in a shared database is in their metrics.
            shared = any(task.claim is not None for task in tasks)
            self._open_by_rule = figures.open_findings if shared else self.store.open_counts()
        except StoreError as error:
            self._refused(error)
        self.metrics.findings_waiting.set(self._waiting())
        self.metrics.letters_waiting.set(len(self._letters.waiting))
        if self._history is not None:
            self.metrics.history_waiting.set(self._history.waiting_rows)
            self.metrics.history_lost.set(self._history.lost)
        self.metrics.connected.set(self._source.connected)
        self.metrics.state(figures, self._open_by_rule, len(self._streams), lag, now)
        self.metrics.snapshots(figures.snapshot_at, figures.snapshot_failures, now)
        self._account(figures)
        self.figures = figures
        self.status = self._status(figures, lag, sum(self._open_by_rule.values()))
        try:
            self._on_status(self.status)
        except StoreError as error:
            self._refused(error)

    def _account(self, figures: TaskStats) -> None:
        """Keeps, beside the findings, where they fall short of what happened."""
        self._limits.look(figures, self.rules)
        if self._limits.untold:
            try:
                self.store.record_shortfalls(self._limits.untold.values())
            except StoreError as error:
                self._refused(error)
            else:
                self._limits.untold.clear()

    def _status(self, figures: TaskStats, lag: int, open_findings: int) -> Status:
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
            watermark=figures.watermark,
            newest=figures.newest,
            open_findings=open_findings,
            streams=len(self._streams),
            engine_bytes=figures.bytes,
            snapshot_at=figures.snapshot_at,
        )


def _name_of(place: Mapping[str, str | int]) -> str:
    """A stream's name, the same in every process: a path, or topic and partition."""
    return "/".join(map(str, place.values()))
