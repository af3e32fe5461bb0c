"""The monitor's loop in a simulated world: broker, disk and clock follow a random seed.

The monitor, the engine, the checkpoints and the snapshot files are the real ones. The world kills the process, cuts the
power, fills the disk, refuses commits, and revokes and assigns partitions, at any call. The final findings must equal
those of the oracle.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Container, Iterable, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from sqlalchemy.exc import OperationalError

import oracle
from custodes._core import Engine, FindingChange, Tables, restore
from custodes.findings import Finding
from custodes.findings.store import Claim, FindingStore
from custodes.rules import Rule
from custodes.runtime.change_notifier import ChangeNotifier
from custodes.runtime.metrics import Metrics
from custodes.runtime.monitor import STATE_SECONDS, Monitor
from custodes.runtime.task import SingleTask
from custodes.sources import RecordList, SourceMessage, StreamJoined, StreamPosition
from custodes.sources.dead_letters import NoDeadLetters
from custodes.state import Checkpoints, Snapshots, recover
from faulty_disk import Disk, PowerCut
from streams import START, described, oracle_rule, plan_for, stored

PARTITIONS = 3
_ACTORS = ["a", "b", "c", 7]
_SUBJECTS = ["s1", "s2", "s3", "s4", None, ["s1", "s5"]]

P = ParamSpec("P")
T = TypeVar("T")


class Killed(BaseException):
    """The process was killed."""


@dataclass(frozen=True)
class BrokerRecord:
    offset: int
    value: bytes


class Broker:
    """Partitions that grow, and the group's committed offsets."""

    def __init__(self, rng: random.Random, events: list[dict[str, Any]]) -> None:
        self._rng = rng
        self.logs: list[list[BrokerRecord]] = [[] for _ in range(PARTITIONS)]
        self._coming = list(reversed(events))
        self.committed: dict[int, int] = {}

    def grow(self) -> None:
        for _ in range(min(self._rng.randrange(12), len(self._coming))):
            log = self._rng.choice(self.logs)
            log.append(BrokerRecord(len(log), json.dumps(self._coming.pop()).encode()))

    @property
    def all_sent(self) -> bool:
        return not self._coming


class SimulatedKafka:
    """A source that reads the broker as one process of a group."""

    name = "simulated"

    def __init__(self, world: MonitorSimulation) -> None:
        self._world = world
        self._rng, self._broker = world.rng, world.broker
        self._resume: dict[int, int] = {}
        self._position: dict[int, int] = {}
        self._moved: list[SourceMessage] = []
        self._dealt_with: dict[int, int] = {}
        self._left_at: dict[int, int] = {}

    def _assign(self, partition: int) -> None:
        committed = self._broker.committed.get(partition, 0)
        self._position[partition] = self._left_at.get(partition, self._resume.pop(partition, committed))
        self._moved.append(StreamJoined(partition))

    def _rebalance(self) -> None:
        """All partitions are revoked; they are assigned again at once or some polls later."""
        self._commit_now()
        self._left_at, self._position = self._position, {}
        self._dealt_with.clear()

    def poll(self, timeout: float) -> list[SourceMessage]:
        self._world.may_end()
        self._broker.grow()
        if self._position and self._rng.random() < 0.05:
            self._rebalance()
        if not self._position and self._rng.random() < 0.7:
            for partition in range(PARTITIONS):
                self._assign(partition)
        arrivals, self._moved = self._moved, []
        if not self._position:
            return []
        for partition in self._rng.sample(sorted(self._position), k=self._rng.randint(1, len(self._position))):
            begin = self._position[partition]
            records = self._broker.logs[partition][begin : begin + self._rng.randrange(8)]
            if records:
                self._position[partition] += len(records)
                arrivals.append(RecordList(partition, records))
        return arrivals

    def read_all(self) -> bool:
        return len(self._position) == PARTITIONS and all(
            position == len(self._broker.logs[partition]) for partition, position in self._position.items()
        )

    def describe(self, stream: int) -> dict[str, str | int]:
        return {"topic": "access", "partition": stream}

    def commit(self, streams: Container[int] | None = None) -> None:
        self._world.may_end()
        for partition, position in self._position.items():
            if streams is None or partition in streams:
                self._dealt_with[partition] = position
        self._commit_now()

    def _commit_now(self) -> None:
        if self._rng.random() < 0.9:
            self._broker.committed.update(self._dealt_with)

    def places(self) -> list[StreamPosition]:
        known = self._left_at | self._position
        return [StreamPosition(partition, f"access/{partition}", position) for partition, position in known.items()]

    def resume(self, places: Sequence[StreamPosition]) -> None:
        self._resume = {place.stream: place.position for place in places}

    def lag(self) -> int:
        return 0

    @property
    def connected(self) -> bool:
        return True

    @property
    def finished(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing to close."""


class Thread(Executor):
    """The snapshot thread: runs its jobs when the world allows it."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._waiting: list[Callable[[], None]] = []
        self.eager = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args, **kwargs))
                except Exception as error:
                    future.set_exception(error)

        self._waiting.append(run)
        if self.eager:
            self.run(len(self._waiting))
        return future

    def run(self, most: int | None = None) -> None:
        for _ in range(self._rng.randrange(4) if most is None else most):
            if self._waiting:
                self._waiting.pop(0)()


class FlakyStore(FindingStore):
    """A database that refuses some writes."""

    def __init__(self, rng: random.Random, url: str = "sqlite://") -> None:
        super().__init__(url)
        self._rng = rng
        self.share = 0.0
        """Probability that a call is refused."""

    def _may_refuse(self) -> None:
        if self._rng.random() < self.share:
            raise OperationalError("a statement", {}, Exception("database or disk is full"))

    def apply(
        self, changes: Iterable[FindingChange], rules: Sequence[Rule], claim: Claim | None = None
    ) -> list[tuple[str, Finding]]:
        self._may_refuse()
        return super().apply(changes, rules, claim)

    def refresh(self, changes: Sequence[FindingChange], rules: Sequence[Rule], claim: Claim | None = None) -> None:
        self._may_refuse()
        super().refresh(changes, rules, claim)


@dataclass
class Build:
    """The parts of one process that a test can break."""

    source: SimulatedKafka
    store: FlakyStore
    work: SingleTask


class MonitorSimulation:
    """One schedule."""

    def __init__(self, seed: int, break_it: Callable[[Build], None] = lambda build: None) -> None:
        """``break_it`` makes a deliberately broken build of the monitor."""
        self.rng = rng = random.Random(seed)
        self._break = break_it
        self.events = made_up_events(rng)
        self.chosen = [made_up_rule(rng) for _ in range(rng.randint(1, 3))]
        self.plan = plan_for(*self.chosen)
        self.rules = [described(rule, f"r{at}") for at, rule in enumerate(self.chosen)]
        self.broker = Broker(rng, self.events)
        self.disk = Disk(rng)
        self.store = FlakyStore(rng)
        self._ends_in: int | None = None
        self.seconds = 0.0

    def may_end(self) -> None:
        """The process can die at any outgoing call."""
        if self._ends_in is not None:
            self._ends_in -= 1
            if self._ends_in < 0:
                raise Killed

    def play(self) -> None:
        """Several runs that are killed, and a last one that reads everything."""
        for _ in range(self.rng.randint(1, 5)):
            self._ends_in = self.rng.randrange(60) if self.rng.random() < 0.7 else None
            self.disk.cut_after = self.rng.randrange(60) if self._ends_in is None else None
            with suppress(Killed, PowerCut):
                self._live(most_steps=self.rng.randrange(5, 60))
            if self.rng.random() < 0.5:
                self.disk = self.disk.after_the_cut()
            self.disk.cut_after, self.disk.full, self.store.share = None, False, 0.0
        self._ends_in = None
        self._live(most_steps=None)

    def _live(self, most_steps: int | None) -> None:
        """One run of a process; without ``most_steps`` until everything has been read."""
        snapshots = Snapshots(self.disk, keep=2)
        recovered = recover(snapshots, self.plan, self.rules, 1, Tables())
        source, thread = SimulatedKafka(self), Thread(self.rng)
        engine = self._with_own_key(recovered.engine) if recovered.snapshot is None else recovered.engine
        checkpoints = Checkpoints(
            snapshots, 3.0, clock=lambda: self.seconds, pace=lambda: self.seconds, thread=thread
        )  # fmt: skip
        if recovered.snapshot is not None:
            source.resume(recovered.snapshot.places)
            checkpoints.went_on_from(recovered.snapshot.places, recovered.snapshot.taken_at)
        work, pace = SingleTask(engine, self.rules, source, checkpoints), 0.0
        monitor = Monitor(
            work, self.rules, source, self.store, NoDeadLetters(), Metrics(self.rules, "simulated"), ChangeNotifier(),
            clock=lambda: 4e9, pace=lambda: pace,
        )  # fmt: skip
        self._break(Build(source, self.store, work))
        step = 0
        while most_steps is None or step < most_steps:
            step += 1
            self.seconds += self.rng.random()
            self.disk.full = most_steps is not None and self.rng.random() < 0.2
            self.store.share = 0.3 if most_steps is not None and self.rng.random() < 0.5 else 0.0
            monitor.retry_now()
            pace += STATE_SECONDS if self.rng.random() < 0.3 else 0.0
            monitor.step(0)
            thread.run()
            if most_steps is None and self.broker.all_sent and source.read_all():
                monitor.finish()
                monitor.store_waiting()
                return
        if self.rng.random() < 0.3:
            thread.eager = True
            thread.run(1000)
            monitor.save(work.tasks())
            monitor.commit()

    def _with_own_key(self, fresh: Engine) -> Engine:
        """An engine with a fingerprint key from the seed, so that a schedule is reproducible."""
        frame, parts = fresh.save_frame(), [b"".join(fresh.save_part(part, {})) for part in range(fresh.parts())]
        return restore(self.plan, frame[:2] + self.rng.randbytes(16) + frame[18:], parts).engine

    def differences(self) -> list[str]:
        """Returns rules whose findings differ from the oracle's, with both."""
        wrong = []
        for rule, told in zip(self.chosen, self.rules, strict=True):
            expected, ours = oracle.findings(self.events, oracle_rule(rule)), stored(self.store, told)
            if expected != ours:
                wrong.append(f"{rule}\n  expected {expected}\n  have     {ours}")
        return wrong


def made_up_events(rng: random.Random) -> list[dict[str, Any]]:
    times = sorted(START + rng.randrange(90) * 1_000_000 for _ in range(rng.randrange(20, 120)))
    return [
        {
            "time": time,
            "actor": rng.choice(_ACTORS),
            "subject": rng.choice(_SUBJECTS),
            "resource": rng.choice(["person", "hotel"]),
        }
        for time in times
    ]


def made_up_rule(rng: random.Random) -> dict[str, Any]:
    judged = rng.random() < 0.2
    return {
        "group_by": rng.choice([["actor"], ["subject"], ["actor", "resource"], []]),
        "distinct": rng.choice([None, "subject", "actor"]),
        "panes": rng.randint(2, 30),
        "resolution": rng.choice([1, 2]),
        "keep_panes": rng.choice([None, 0, 5]),
        "holds": (rng.choice(["lt", "eq"]), rng.randint(1, 3)) if judged else ("gte", rng.randint(2, 9)),
        "resource": rng.choice([None, "person"]),
    }


def play(seed: int, break_it: Callable[[Build], None] = lambda build: None) -> list[str]:
    """Runs a schedule; returns the faults at the end."""
    world = MonitorSimulation(seed, break_it)
    try:
        world.play()
        return world.differences()
    finally:
        world.store.close()
