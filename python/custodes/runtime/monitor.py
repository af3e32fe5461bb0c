"""The monitor's main loop: source → engine → findings, metrics and dead letters, until it is stopped."""

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
    FileNotRead,
    LogTruncated,
    RecordsMissed,
    TopicRecreated,
    cause_of,
)
from custodes.retry import Retry
from custodes.rules import Rule, Ruleset
from custodes.runtime.change_notifier import ChangeNotifier
from custodes.runtime.limits import Limits
from custodes.runtime.metrics import Metrics
from custodes.runtime.stats import TaskStats
from custodes.runtime.task import Task, TaskSet
from custodes.sources import (
    EventSource,
    FetchedBatches,
    FileFault,
    GapCause,
    RecordList,
    RepartitionRecords,
    StreamGap,
    StreamLeft,
)
from custodes.sources.dead_letters import DeadLetters, Letter
from custodes.sources.messages import SourceMessage

POLL_SECONDS = 0.25
STATE_SECONDS = 1.0
"""Seconds between updates of gauges and grown findings, and between commits of offsets."""


@dataclass(frozen=True)
class Status:
    """State of the monitor, for the console and the API."""

    source: str
    at: float
    """The monitor's clock at the time of this status, in epoch seconds."""
    ready: bool
    finished: bool
    started_at: float
    events: int
    rejected: int
    late: int
    unmatched: int
    no_access: int
    events_per_second: float
    lag_records: int | None
    """Records that are available and not counted yet; ``None`` until the end of each partition is known."""
    watermark: int | None
    newest: int | None
    open_findings: int
    streams: int
    engine_bytes: int
    snapshot_at: float | None
    """Time at which the last snapshot was started, in epoch seconds."""


SAVE_SECONDS = 8.0
"""Seconds that saving may take at shutdown or before a revocation. Events after the last snapshot are replayed."""
RETRY_SECONDS = 1.0
"""Seconds until a database is tried again after an error."""
_MOST_RETRY_SECONDS = 30.0
"""Maximum seconds until dead letters are tried again."""


@dataclass
class _Database:
    """State of a database that can fail, and gaps that wait for it."""

    gaps: list[MissedRecords] = field(default_factory=list)
    retry: Retry = field(default_factory=lambda: Retry(RETRY_SECONDS))
    counted: int = 0
    """Events since the last write of waiting findings."""


@dataclass
class _PendingDeadLetters:
    """Dead letters that are not stored yet."""

    waiting: list[Letter] = field(default_factory=list)
    retry: Retry = field(default_factory=lambda: Retry(2 * RETRY_SECONDS, _MOST_RETRY_SECONDS))


_MOST_UNSTORED = 50_000
"""Number of events, about 50 ms of counting, after which findings are stored and reported within a round."""
_MOST_LETTERS = 10_000
"""Dead letters in memory at which reading stops."""


@dataclass
class _Totals:
    events: int = 0
    rejected: int = 0
    late: int = 0
    unmatched: int = 0
    no_access: int = 0
    recent: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=11))

    def rate(self) -> float:
        if len(self.recent) < 2:
            return 0.0
        (start, first), (end, last) = self.recent[0], self.recent[-1]
        return (last - first) / (end - start) if end > start else 0.0


class Monitor:
    """Runs the main loop. :meth:`run` blocks; :attr:`status` can be read from any thread."""

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
        """``memory`` is the limit of window state in bytes; ``None`` sets no limit.

        ``history`` receives the events that the engine records. ``on_news`` is called for each finding that opens or
        closes, ``on_status`` once per second. ``clock`` is in epoch seconds. ``pace`` is in seconds of a clock that
        only advances.
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
        """Statistics of the tasks at the last update."""
        self.status = self._status(self.figures, lag=None, open_findings=0)

    def run(self, stop: threading.Event) -> None:
        """Runs until the source ends or ``stop`` is set. All events read by then are processed and saved."""
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
        """Processes the events that the tasks hold back after their source has ended."""
        for task, outcome in self._work.finish():
            self._deal_with(task, outcome, {}, time.perf_counter())

    def step(self, timeout: float) -> None:
        """Runs one round: poll, count, store; and once per second, commit."""
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
            # A snapshot must not contain counts of unstored findings, nor a position after an unstored dead letter.
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
        """Writes a complete snapshot of each task, before the process ends or the task moves to another worker."""
        until = time.monotonic() + SAVE_SECONDS
        self.store_waiting()
        for task in tasks:
            within = until - time.monotonic()
            if within > 0 and self._store_growth(task) and not self._letters.waiting and task.checkpoints is not None:
                task.checkpoints.take_now(task.engine, task.places(), within)

    def change_rules(self, ruleset: Ruleset, threads: int = 1, timeout: float = 60.0) -> None:
        """Replaces the rules between two rounds; unchanged rules keep their windows. Called from other threads.

        Raises ``ValueError`` for rules that cannot be run, and ``TimeoutError``; the rules are then unchanged.
        """
        done: Future[None] = Future()
        self._wanted.put((ruleset, threads, done))
        done.result(timeout)

    def _change_rules(self) -> None:
        while not self._wanted.empty():
            ruleset, threads, done = self._wanted.get()
            # Findings that grew refer to the previous rules.
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
        """Stores findings that only grew, and then confirms that everything read is processed.

        Streams that no snapshot covers yet are excluded: after a restart, their windows would start empty at the
        offset.
        """
        if self._store_all_growth() and not self._letters.waiting:
            self._source.commit(self._work.covered())

    def _store_all_growth(self) -> bool:
        for task in self._work.tasks():
            self._store_growth(task)
        return not self._waiting()

    def _store_growth(self, task: Task) -> bool:
        """Stores findings that only grew. Returns whether no finding is left to store."""
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
            # The task may end with this message, but its outcome must be kept.
            self.store_waiting()
            self._streams.discard(arrival.stream)
        else:
            self._streams.add(arrival.stream)
        if isinstance(arrival, StreamGap):
            place = self._source.describe(arrival.stream)
            self.tell_of(arrival, place)
        if isinstance(arrival, FileFault):
            self._take_fault(arrival, self._source.describe(arrival.stream))
        for task, outcome in self._work.take(arrival, int(self._clock() * 1e6)):
            log = arrival.log if isinstance(arrival, RecordList | FetchedBatches) else 0
            self._deal_with(task, outcome, self._source.describe(arrival.stream), begun, log)
        self._limits.keep(self._work.tasks())

    def _take_fault(self, fault: FileFault, place: dict[str, str | int]) -> None:
        FileNotRead(place=place, line=fault.position, reason=fault.reason, detail=fault.detail).emit()
        self._letters.waiting.append(Letter(fault, place))
        self._write_letters()
        self._totals.rejected += 1
        self.metrics.rejected.labels(fault.reason).inc()

    def tell_of(self, gap: StreamGap, place: dict[str, str | int]) -> None:
        """Reports and stores that events were lost."""
        self._database.gaps.append(MissedRecords.of(gap, place, int(self._clock() * 1e6)))
        self.store_waiting()
        self.metrics.missed.inc(gap.missed)
        if gap.is_new_log:
            self.metrics.new_logs.labels(gap.cause).inc()
        match gap.cause:
            case GapCause.deleted:
                RecordsMissed(records=gap.missed, place=place).emit()
            case GapCause.recreated:
                TopicRecreated(place=place, counted_until=gap.expected).emit()
            case GapCause.truncated:
                LogTruncated(place=place, counted_until=gap.expected, position=gap.position).emit()

    def _deal_with(self, task: Task, outcome: Outcome, place: dict[str, str | int], begun: float, log: int = 0) -> None:
        self._letters.waiting += [Letter(reject, place) for reject in outcome.rejects]
        self._write_letters()
        task.unstored += outcome.changes
        self._database.counted += outcome.events
        # A round can contain many batches with one or two changes each; a transaction for each would take as long as
        # counting.
        if self._database.counted >= _MOST_UNSTORED:
            self.store_waiting()
        if task.reads_events:
            self._totals.events += outcome.events
            self._totals.rejected += len(outcome.rejects)
            self._totals.late += outcome.late
            self._totals.unmatched += outcome.unmatched
            self._totals.no_access += outcome.no_access
            if self._history is not None and place and len(outcome.recording):
                self._history.take(_name_of(place, log), outcome.recording)
            self.metrics.batch(outcome, time.perf_counter() - begun)

    def retry_now(self) -> None:
        """Makes the next attempts to reach the database and the dead-letter destination due at once."""
        self._database.retry.retry_now()
        self._letters.retry.retry_now()

    def _write_letters(self) -> None:
        """Writes dead letters. After an error they wait, and nothing after them is committed or saved."""
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
        """Stores the findings and gaps that wait for the database, unless it fails, and reports new findings."""
        self.tell(self._store())

    def _waiting(self) -> int:
        """Returns the number of changes that wait for the database."""
        return len(self._database.gaps) + sum(len(task.unstored) for task in self._work.tasks())

    def _store(self) -> list[tuple[str, Finding]]:
        """Stores what waits. Returns the changes that are new to the store; nothing while the database fails."""
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
        """Records a database error: the changes wait, and nothing is committed or saved meanwhile."""
        if self._database.retry.failed():
            DatabaseFailed(error=cause_of(error)).emit()

    def tell(self, news: Sequence[tuple[str, Finding]]) -> None:
        reportable = [(kind, finding) for kind, finding in news if kind != "updated"]
        for kind, finding in reportable:
            self.metrics.news(kind, finding)
            self._on_news(kind, finding)
        if reportable:
            self.feed.publish()

    def _refresh(self) -> None:
        """Updates gauges and status."""
        now = self._clock()
        self._state_at = self._pace()
        self._totals.recent.append((self._state_at, self._totals.events))
        tasks = self._work.tasks()
        figures, lag = TaskStats.of(tasks), self._source.lag()
        try:
            # Findings of other workers in a shared database are in their own metrics.
            shared = any(task.claim is not None for task in tasks)
            self._open_by_rule = figures.open_findings if shared else self.store.open_counts()
        except StoreError as error:
            self._refused(error)
        self.metrics.findings_waiting.set(self._waiting())
        self.metrics.letters_waiting.set(len(self._letters.waiting))
        if self._history is not None:
            self.metrics.history_waiting.set(self._history.waiting_rows)
            self.metrics.history_failing.set(self._history.is_failing)
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
        """Stores, with the findings, the shortfalls that limits caused."""
        self._limits.look(figures, self.rules)
        if self._limits.untold:
            try:
                self.store.record_shortfalls(self._limits.untold.values())
            except StoreError as error:
                self._refused(error)
            else:
                self._limits.untold.clear()

    def _status(self, figures: TaskStats, lag: int | None, open_findings: int) -> Status:
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
            unmatched=totals.unmatched,
            no_access=totals.no_access,
            events_per_second=totals.rate(),
            lag_records=lag,
            watermark=figures.watermark,
            newest=figures.newest,
            open_findings=open_findings,
            streams=len(self._streams),
            engine_bytes=figures.bytes,
            snapshot_at=figures.snapshot_at,
        )


def _name_of(place: Mapping[str, str | int], log: int) -> str:
    """Returns the name of a stream, the same in every process: a path, or topic and partition; after ``#``, the number
    of a log that has replaced another."""
    name = "/".join(map(str, place.values()))
    return f"{name}#{log}" if log else name
