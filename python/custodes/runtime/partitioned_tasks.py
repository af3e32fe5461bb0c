"""The tasks of one worker: one task per partition that the group assigned to it.

The task of a source partition counts the rules whose groups lie within it, and sends the events of all other rules to
the repartition topic, by share of the groups. The task of a share counts these events. State moves with the partition:
the new owner claims the task, restores the last snapshot of the previous owner, and starts to read at its position.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from kafka.errors import KafkaError

from custodes._core import Tables
from custodes.encryption.keys import NO_KEYS, Keys
from custodes.findings.store import Claim, FindingStore, StoreError
from custodes.log_events import (
    PartitionClaimedElsewhere,
    PartitionTakenOver,
    RepartitionDelayed,
    TakeoverDelayed,
    cause_of,
)
from custodes.retry import Retry
from custodes.rules import Rule, Ruleset
from custodes.runtime.task import Task, TaskOutcomes
from custodes.sources import SourceMessage, StreamGap, StreamJoined, StreamLeft, StreamPosition
from custodes.sources.messages import RepartitionRecords
from custodes.sources.repartition import RepartitionInbox, RepartitionOutbox, SentRange
from custodes.state import Checkpoints, Snapshots, StateStore, recover

_OWN = 0
"""Stream number of a task's own partition in its engine, in every process; streams of an inbox have other numbers."""
_RETRY_SECONDS = 1.0
_TELL_SECONDS = 1.0
"""Seconds between reports of a partition's position to shares without events."""
_REPEAT_SECONDS = 5.0
"""Seconds between repeated reports, for shares that have started in the meantime."""


class PartitionedSource(Protocol):
    """Methods of the source that tasks need in addition to those that the monitor needs."""

    def begin(self, stream: int, place: StreamPosition | None) -> int:
        """Starts an assigned partition at a saved position, by default at the committed one. Returns the position,
        which is 0 if the topic was recreated since it was saved."""

    def place(self, stream: int) -> StreamPosition:
        """Returns the position of the next record of a partition, which it names ``topic/number``."""

    def is_share(self, stream: int) -> bool:
        """Returns whether the stream is a partition of the repartition topic."""

    def is_idle(self, stream: int) -> bool:
        """Returns whether the stream was silent long enough to be ignored by the watermark."""

    def still_ours(self, stream: int) -> bool:
        """Asks the group whether this worker still owns the partition."""

    def event_partitions(self) -> list[str]:
        """Returns all source partitions, those of other workers included."""

    def shares(self) -> int:
        """Returns the number of partitions of the repartition topic."""


class RepartitionSink(Protocol):
    """The producer of the repartition topic."""

    def send(self, share: int, sent: SentRange) -> None: ...

    def flush(self) -> None: ...


@dataclass(frozen=True)
class SnapshotSettings:
    """Settings of snapshots."""

    states: StateStore
    interval: float
    """Seconds between two snapshots of a task."""
    keep: int
    before: Callable[[], None] = lambda: None
    """Called before a snapshot starts; may raise ``OSError``."""
    keys: Keys = NO_KEYS
    """The encryption keys."""


@dataclass(frozen=True)
class _GroupSettings:
    """Settings that all workers share."""

    fingerprint_key: str
    """The key, in hexadecimal digits."""
    shares: int


@dataclass
class AssignedPartition:
    """A partition that is assigned to this worker."""

    stream: int
    task: Task | None = None
    open_at: float = 0.0
    """Time at which to open the task, until it is open."""
    outbox: RepartitionOutbox | None = None
    """Events to send, for a source partition."""
    inbox: RepartitionInbox | None = None
    """Received offsets, for a share."""
    is_fenced: bool = False
    """Whether a snapshot found that another worker has claimed the task; it then must not write any more."""
    told_at: float = 0.0
    """Time of the last report to all shares, or of the last update of the inbox's partitions."""
    repeated_at: float = 0.0


class PartitionedTasks:
    """The tasks of the partitions assigned to this worker."""

    def __init__(
        self,
        worker: str,
        source: PartitionedSource,
        ruleset: Ruleset,
        handing: RepartitionSink,
        store: FindingStore,
        keeping: SnapshotSettings,
        *,
        idle_after: float,
        threads: int,
        tables: Tables | None = None,
        pace: Callable[[], float] = time.monotonic,
        thread: Executor | None = None,
    ) -> None:
        """``idle_after`` is in seconds of ``pace``. ``thread`` writes snapshots."""
        self.missed: Callable[[StreamGap, dict[str, str | int]], None] = lambda gap, place: None
        """Called for offsets of a source partition that were never sent."""
        self._worker = worker
        self._source = source
        self._ruleset = ruleset
        self._handing = handing
        self._store = store
        self._keeping = keeping
        self._idle_after = idle_after
        self._threads = threads
        self._tables = tables or Tables()
        self._pace = pace
        self.partitions: dict[int, AssignedPartition] = {}
        """The partitions assigned to this worker, by stream."""
        self._agreed: _GroupSettings | None = None
        self._retry = Retry(_RETRY_SECONDS, clock=pace)
        self._thread = thread or ThreadPoolExecutor(1, "snapshots")

    def tasks(self) -> Sequence[Task]:
        return [held.task for held in self.partitions.values() if held.task is not None]

    def take(self, arrival: SourceMessage | RepartitionRecords, now: int) -> TaskOutcomes:
        stream = arrival.stream
        if isinstance(arrival, StreamJoined):
            self.partitions.setdefault(stream, AssignedPartition(stream))
        elif isinstance(arrival, StreamLeft):
            self.give_up([stream])
        elif (held := self.partitions.get(stream)) is not None and held.task is not None:
            if isinstance(arrival, RepartitionRecords):
                yield from self._count_parcels(held, held.task, arrival)
            else:
                yield from self._read(held, held.task, arrival, now)

    def _read(self, held: AssignedPartition, task: Task, arrival: SourceMessage, now: int) -> TaskOutcomes:
        """Counts events of a source partition, and queues the events that other tasks count."""
        outcome = replace(arrival, stream=_OWN).feed(task.engine, now)
        if outcome is not None:
            yield task, outcome
        if (outbox := held.outbox) is None:
            return
        if isinstance(arrival, StreamGap) and arrival.is_new_log:
            outbox.begin_log(self._source.place(held.stream).log.number, arrival.expected, arrival.position)
        if outcome is not None:
            outbox.add(outcome.repartition_batches)
            outbox.clock = outcome.clock if outcome.clock is not None else outbox.clock

    def _count_parcels(self, held: AssignedPartition, task: Task, arrival: RepartitionRecords) -> TaskOutcomes:
        """Counts the events that source partitions have sent to a share."""
        if (inbox := held.inbox) is None:
            return
        for offset, value in arrival.values:
            try:
                for outcome in inbox.take(SentRange.decode(value), task.engine):
                    yield task, outcome
            except ValueError as error:
                raise ValueError(f"{task.name} at offset {offset}: {error}") from error

    def settle(self) -> None:
        now = self._pace()
        if not self._retry.is_due():
            return
        for held in list(self.partitions.values()):
            try:
                self._settle(held, now)
            except (KafkaError, StoreError, OSError) as error:
                # The cause usually affects all partitions, and each attempt can take seconds.
                self._retry.failed()
                name = self._source.place(held.stream).name
                delayed = TakeoverDelayed if held.task is None else RepartitionDelayed
                delayed(partition=name, error=cause_of(error)).emit()
                return
        self._retry.succeeded()

    def _settle(self, held: AssignedPartition, now: float) -> None:
        if held.task is None:
            if now >= held.open_at:
                self._open(held)
        elif held.is_fenced:
            self.lost(held.task)
        elif held.outbox is not None:
            self._hand_on(held, held.outbox, now)
        elif held.inbox is not None and now - held.told_at >= _TELL_SECONDS:
            held.told_at = now
            held.inbox.expect(self._source.event_partitions(), held.task.engine)

    def _hand_on(self, held: AssignedPartition, outbox: RepartitionOutbox, now: float) -> None:
        """Sends queued events, and reports the partition's position to every share at intervals."""
        outbox.idle = self._source.is_idle(held.stream)
        everybody = now - held.told_at >= _TELL_SECONDS
        if everybody:
            held.told_at = now
        if now - held.repeated_at >= _REPEAT_SECONDS:
            held.repeated_at = now
            outbox.repeat()
        self._send(held, outbox, everybody=everybody)

    def _send(self, held: AssignedPartition, outbox: RepartitionOutbox, *, everybody: bool) -> None:
        outbox.send(self._source.place(held.stream).position, self._handing.send, everybody=everybody)

    def _tell_all(self, held: AssignedPartition) -> None:
        """Reports the position to all shares before a snapshot: after it, no share may miss a report of earlier
        offsets."""
        if held.outbox is None:
            return
        try:
            self._send(held, held.outbox, everybody=True)
        except KafkaError as error:
            raise OSError(f"events before the snapshot cannot be sent to the repartition topic: {error}") from error

    def _open(self, held: AssignedPartition) -> None:
        if not self._source.still_ours(held.stream):
            held.open_at = self._pace() + _RETRY_SECONDS
            return
        agreed = self._agree()
        name = self._source.place(held.stream).name
        is_share = self._source.is_share(held.stream)
        plan, rules = self._plan(name, is_share, agreed)
        # The claim comes first: while the database holds it, no other worker has claimed the state.
        claim = self._store.claim(name, self._worker)
        snapshots = Snapshots(self._keeping.states.claim(name), self._keeping.keep, self._keeping.keys)
        recovered = recover(snapshots, plan, rules, self._threads, self._tables)
        self._store.close_left_open(recovered.left_open)
        known = [] if recovered.snapshot is None else recovered.snapshot.places
        begins = self._source.begin(held.stream, next((place for place in known if place.stream == _OWN), None))
        checkpoints = self._checkpoints(held, snapshots, claim)
        if recovered.snapshot is not None:
            checkpoints.went_on_from(known, recovered.snapshot.taken_at)
        places = partial(self._places, held)
        held.task = Task(name, recovered.engine, rules, checkpoints, places, claim, reads_events=not is_share)
        if is_share:
            had = [place for place in known if place.stream != _OWN]
            held.inbox = RepartitionInbox(had, self._idle_after, self.missed, self._pace)
            held.inbox.expect(self._source.event_partitions(), held.task.engine)
        else:
            held.task.engine.join(_OWN)
            held.outbox = RepartitionOutbox(name, agreed.shares, begins, self._source.place(held.stream).log.number)
        PartitionTakenOver(partition=name, position=begins, from_snapshot=recovered.snapshot is not None).emit()

    def _checkpoints(self, held: AssignedPartition, snapshots: Snapshots, claim: Claim) -> Checkpoints:
        return Checkpoints(
            snapshots,
            self._keeping.interval,
            pace=self._pace,
            thread=self._thread,
            begins=partial(self._before_snapshot, held),
            arrived=self._handing.flush,
            still_ours=partial(self._still_ours, held, claim),
        )

    def _before_snapshot(self, held: AssignedPartition) -> None:
        self._keeping.before()
        self._tell_all(held)

    def _agree(self) -> _GroupSettings:
        """Returns the settings that all workers share. They are read once, because this reads the state store."""
        states, shares = self._keeping.states, self._source.shares()
        if self._agreed is None:
            agreed = int(states.agree("shares", str(shares)))
            self._agreed = _GroupSettings(states.agree("fingerprint_key", secrets.token_hex(16)), agreed)
        if shares != self._agreed.shares:
            dealt = self._agreed.shares
            raise ValueError(
                f"the repartition topic has {shares} partitions, but groups are assigned to {dealt} shares"
            )
        return self._agreed

    def _still_ours(self, held: AssignedPartition, claim: Claim) -> bool:
        try:
            held.is_fenced = not self._store.holds(claim)
        except StoreError:
            return False
        return not held.is_fenced

    def _plan(self, name: str, is_share: bool, agreed: _GroupSettings) -> tuple[str, list[Rule]]:
        """Returns the plan and the rules of a task."""
        ruleset, key, shares = self._ruleset, agreed.fingerprint_key, agreed.shares
        if is_share:
            return ruleset.plan_by_share(key, int(name.rpartition("/")[2]), shares), ruleset.by_share
        return ruleset.plan_where_read(key, shares), ruleset.where_read

    def _places(self, held: AssignedPartition) -> list[StreamPosition]:
        own = replace(self._source.place(held.stream), stream=_OWN)
        return [own] if held.inbox is None else [own, *held.inbox.places()]

    def finish(self) -> TaskOutcomes:
        return []

    def lost(self, task: Task) -> None:
        for held in self.partitions.values():
            if held.task is task:
                PartitionClaimedElsewhere(partition=task.name).emit()
                self.partitions[held.stream] = AssignedPartition(held.stream, open_at=self._pace() + _RETRY_SECONDS)
                return

    def give_up(self, streams: Iterable[int]) -> None:
        """Removes partitions that another worker owns now."""
        for stream in streams:
            held = self.partitions.pop(stream, None)
            if held is not None and held.task is not None and held.task.checkpoints is not None:
                held.task.checkpoints.drop()

    def of(self, streams: Iterable[int]) -> Iterator[Task]:
        """Yields the tasks of partitions."""
        for stream in streams:
            if (held := self.partitions.get(stream)) is not None and held.task is not None:
                yield held.task

    def covered(self) -> set[int] | None:
        return {
            held.stream
            for held in self.partitions.values()
            if held.task is not None and held.task.checkpoints is not None and _OWN in held.task.checkpoints.covered
        }

    def replan(self, ruleset: Ruleset, threads: int) -> list[tuple[str, int]]:
        self._ruleset, self._threads = ruleset, threads
        left_open: list[tuple[str, int]] = []
        for held in self.partitions.values():
            if held.task is not None:
                plan, rules = self._plan(held.task.name, held.inbox is not None, self._agree())
                left_open += held.task.replan(plan, rules, threads)
        return left_open

    def close(self) -> None:
        # Pending work ends when the topics are closed.
        self._thread.shutdown(wait=False, cancel_futures=True)
