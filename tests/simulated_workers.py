"""Workers in a simulated world: group, topics and database follow a random seed.

Monitor, tasks, engines, snapshots and the state topic's folders are the real ones. The world kills workers, pauses them
while their partitions move to others, and resumes them as zombies; it moves partitions, delays or drops repartitioned
events, and lets the database refuse writes. The final findings must equal those of the oracle.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

import oracle
from custodes.config.mapping import Mapping
from custodes.rules import Ruleset, build_plan
from custodes.runtime.change_notifier import ChangeNotifier
from custodes.runtime.metrics import Metrics
from custodes.runtime.monitor import STATE_SECONDS, Monitor
from custodes.runtime.partitioned_tasks import PartitionedTasks, SnapshotSettings
from custodes.sources import (
    RecordList,
    RepartitionRecords,
    SourceMessage,
    StreamJoined,
    StreamLeft,
    StreamPosition,
)
from custodes.sources.dead_letters import NoDeadLetters
from custodes.sources.repartition import SentRange
from custodes.state.topic import TopicFolder
from simulation import FlakyStore, Killed, Thread, made_up_events, made_up_rule
from streams import LATENESS_S, StreamRecord, described, oracle_rule, stored

SOURCES, SHARES = 3, 2
PARTITIONS = [*(f"access/{at}" for at in range(SOURCES)), *(f"share/{at}" for at in range(SHARES))]
FIELDS = ("time", "actor", "subject", "resource")


class Acknowledged:
    """A record in its topic."""

    def arrive(self) -> None: ...


class StateLog:
    """The state topic: one log per partition, kept in memory."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._logs: dict[int, list[tuple[list[Any], bytes | None]]] = {}

    def agree(self, name: str, proposal: str) -> str:
        return "000102030405060708090a0b0c0d0e0f" if name == "fingerprint_key" else str(SHARES)

    def claim(self, task: str) -> TopicFolder:
        partition = int(task.rpartition("/")[2])
        epoch = self._append(partition, ["claim", task, ""], b"{}")
        return TopicFolder(self, task, partition, epoch, self._records(partition, epoch))  # type: ignore[arg-type]

    def send(self, partition: int, key: list[Any], value: bytes | None) -> Acknowledged:
        self._append(partition, key, value)
        return Acknowledged()

    def _append(self, partition: int, key: list[Any], value: bytes | None) -> int:
        log = self._logs.setdefault(partition, [])
        log.append((key, value))
        return len(log) - 1

    def _records(self, partition: int, until: int) -> Iterator[tuple[int, list[Any], bytes | None]]:
        """Compaction may have removed records that have a later record with the same key, except the last ones."""
        log = self._logs[partition][: until + 1]
        clean_until = self._rng.randrange(len(log))
        last = {json.dumps(key): at for at, (key, _) in enumerate(log[:clean_until])}
        for at, (key, value) in enumerate(log):
            if at >= clean_until or last[json.dumps(key)] == at or key[0] == "claim":
                yield at, key, value

    def close(self) -> None:
        """Nothing to close."""


class SimulatedSink:
    """A worker's repartitioned events are in flight until the world delivers them, in order."""

    def __init__(self, world: WorkersSimulation) -> None:
        self._world = world
        self._on_its_way: list[tuple[int, bytes]] = []

    def send(self, share: int, sent: SentRange) -> None:
        self._on_its_way.append((share, sent.encode()))

    def deliver(self, most: int) -> None:
        for _ in range(min(most, len(self._on_its_way))):
            share, value = self._on_its_way.pop(0)
            log = self._world.logs[f"share/{share}"]
            log.append(StreamRecord(len(log), value))

    def flush(self) -> None:
        self.deliver(len(self._on_its_way))


class SimulatedSource:
    """A worker's consumer. Rebalances reach it when it polls."""

    name = "simulated"
    finished = False
    connected = True

    def __init__(self, world: WorkersSimulation, worker: SimulatedWorker) -> None:
        self._world, self._worker, self._rng = world, worker, world.rng
        self._positions: dict[str, int | None] = {}
        self._unaware = 0
        """Polls until it detects its lost partitions."""

    def woken(self) -> None:
        """The worker was paused."""
        self._unaware = self._rng.randrange(3)

    def poll(self, timeout: float) -> list[SourceMessage | RepartitionRecords]:
        self._world.may_end(self._worker)
        came: list[SourceMessage | RepartitionRecords] = []
        if self._unaware:
            self._unaware -= 1
        else:
            came += self._hear_of_the_group()
        for name, position in self._rng.sample(sorted(self._positions.items(), key=str), len(self._positions)):
            if position is None or self._rng.random() < 0.3:
                continue
            records = self._world.logs[name][position : position + self._rng.randrange(8)]
            if records:
                self._positions[name] = position + len(records)
                stream = PARTITIONS.index(name)
                if name.startswith("share"):
                    came.append(RepartitionRecords(stream, [(record.offset, record.value) for record in records]))
                else:
                    came.append(RecordList(stream, records))
        return came

    def _hear_of_the_group(self) -> Iterator[SourceMessage]:
        world = self._world
        mine = {name for name, owner in world.owners.items() if owner is self._worker}
        for name in [name for name in self._positions if name not in mine]:
            del self._positions[name]
            yield StreamLeft(PARTITIONS.index(name))
        leaving = [name for name in self._positions if world.leaving.get(name)]
        if leaving:
            streams = [PARTITIONS.index(name) for name in leaving]
            self._worker.thread.eager = True
            self._worker.thread.run(1000)
            self._worker.monitor.save(list(self._worker.work.of(streams)))
            self._worker.work.give_up(streams)
            for name in leaving:
                del self._positions[name]
                world.owners[name] = world.leaving.pop(name)
                yield StreamLeft(PARTITIONS.index(name))
        for name in sorted(mine - set(self._positions) - set(leaving)):
            self._positions[name] = None
            yield StreamJoined(PARTITIONS.index(name))

    def begin(self, stream: int, place: StreamPosition | None) -> int:
        name = PARTITIONS[stream]
        begins = self._world.committed.get(name, 0) if place is None else place.position
        self._positions[name] = begins
        return begins

    def place(self, stream: int) -> StreamPosition:
        return StreamPosition(stream, PARTITIONS[stream], self._positions.get(PARTITIONS[stream]) or 0)

    def is_share(self, stream: int) -> bool:
        return stream >= SOURCES

    def is_idle(self, stream: int) -> bool:
        return False

    def still_ours(self, stream: int) -> bool:
        """The group may rebalance between the answer and its use."""
        owner = self._world.owners.get(PARTITIONS[stream])
        return owner is self._worker or (self._unaware > 0 and self._rng.random() < 0.3)

    def event_partitions(self) -> list[str]:
        return PARTITIONS[:SOURCES]

    def shares(self) -> int:
        return SHARES

    def describe(self, stream: int) -> dict[str, str | int]:
        return {"topic": "simulated", "partition": stream}

    def commit(self, streams: Container[int] | None = None) -> None:
        self._world.may_end(self._worker)
        for name, position in self._positions.items():
            ours = self._world.owners.get(name) is self._worker
            if position is not None and ours and (streams is None or PARTITIONS.index(name) in streams):
                self._world.committed[name] = position

    def read_all(self) -> bool:
        """Returns whether it has read its source partitions to their ends."""
        mine = {name: position for name, position in self._positions.items() if name in PARTITIONS[:SOURCES]}
        return all(position == len(self._world.logs[name]) for name, position in mine.items())

    def lag(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing to close."""


class SimulatedWorker:
    """One process."""

    def __init__(self, world: WorkersSimulation, number: int, break_it: Callable[[SimulatedWorker], None]) -> None:
        self.world = world
        self.seconds = 0.0
        self.ends_in: int | None = None
        self.stands_still = 0
        self.store = FlakyStore(world.rng, world.database)
        self.thread = Thread(world.rng)
        self.handing = SimulatedSink(world)
        self.source = SimulatedSource(world, self)
        self.work = PartitionedTasks(
            f"worker{number}", self.source, world.ruleset, self.handing, self.store,
            SnapshotSettings(world.states, 3.0, 2),
            idle_after=1e9, threads=1, pace=lambda: world.seconds, thread=self.thread,
        )  # fmt: skip
        self.monitor = Monitor(
            self.work, world.rules, self.source, self.store, NoDeadLetters(), Metrics(world.rules, "simulated"),
            ChangeNotifier(), clock=lambda: 4e9, pace=lambda: self.seconds,
        )  # fmt: skip
        self.work.missed = world.missed
        break_it(self)

    def step(self, *, gently: bool) -> None:
        rng, monitor = self.world.rng, self.monitor
        self.store.share = 0.0 if gently else rng.choice([0.0, 0.0, 0.3])
        monitor.retry_now()
        self.seconds += STATE_SECONDS if rng.random() < 0.3 else 0.0
        self.thread.eager = gently
        monitor.step(0)
        self.thread.run(1000 if gently else None)
        self.handing.deliver(1000 if gently else rng.randrange(20))


class WorkersSimulation:
    """One schedule."""

    def __init__(self, seed: int, break_it: Callable[[SimulatedWorker], None] = lambda worker: None) -> None:
        """``break_it`` makes deliberately broken builds of the workers."""
        self.rng = rng = random.Random(seed)
        self._break = break_it
        self.events = made_up_events(rng)
        self.chosen = [made_up_rule(rng) for _ in range(rng.randint(1, 3))]
        self.rules = [described(rule, f"r{at}") for at, rule in enumerate(self.chosen)]
        write = partial(
            build_plan,
            mapping=Mapping({name: [name] for name in FIELDS}),
            allowed_lateness=timedelta(seconds=LATENESS_S),
        )
        self.ruleset = Ruleset(self.rules, write, frozenset(rng.choice([["actor"], []])))
        self.database = f"sqlite:///file:workers{seed}?mode=memory&cache=shared&uri=true"
        self.logs: dict[str, list[StreamRecord]] = {name: [] for name in PARTITIONS}
        self._coming = list(reversed(self.events))
        self.states = StateLog(rng)
        self.owners: dict[str, SimulatedWorker] = {}
        self.leaving: dict[str, SimulatedWorker] = {}
        self.committed: dict[str, int] = {}
        self.gaps: list[Any] = []
        self.seconds = 0.0
        self._born = 0
        self._workers: list[SimulatedWorker] = []
        self.final = FlakyStore(rng, self.database)

    def missed(self, gap: Any, place: dict[str, str | int]) -> None:
        self.gaps.append((gap, place))

    def may_end(self, worker: SimulatedWorker) -> None:
        """The process can die at any outgoing call."""
        if worker.ends_in is not None:
            worker.ends_in -= 1
            if worker.ends_in < 0:
                raise Killed

    def _grow(self) -> None:
        for _ in range(min(self.rng.randrange(6), len(self._coming))):
            event = self._coming.pop()
            log = self.logs[f"access/{['a', 'b', 'c', 7].index(event['actor']) % SOURCES}"]
            log.append(StreamRecord(len(log), json.dumps(event).encode()))

    def _start_one(self) -> None:
        self._born += 1
        worker = SimulatedWorker(self, self._born, self._break)
        worker.ends_in = self.rng.randrange(80) if self.rng.random() < 0.5 else None
        self._workers.append(worker)

    def _gone(self, worker: SimulatedWorker) -> None:
        self._workers.remove(worker)
        worker.store.close()

    def _deal_out(self, *, gently: bool) -> None:
        """Rebalances: partitions of dead and, after a while, of paused workers move; some move at random."""
        awake = [worker for worker in self._workers if not worker.stands_still]
        if not awake:
            return
        for name in PARTITIONS:
            owner = self.owners.get(name)
            lost = owner is None or owner not in self._workers
            if lost or (owner is not None and owner.stands_still and self.rng.random() < 0.3):
                self.leaving.pop(name, None)
                if gently or self.rng.random() < 0.7:
                    self.owners[name] = self.rng.choice(awake)
            elif not gently and self.rng.random() < 0.03:
                self.leaving[name] = self.rng.choice(awake)
        for name, heir in list(self.leaving.items()):
            if heir not in awake or heir is self.owners.get(name):
                del self.leaving[name]

    def play(self) -> None:
        for _ in range(self.rng.randrange(20, 120)):
            self.seconds += self.rng.random()
            self._grow()
            if len(self._workers) < 3 and self.rng.random() < 0.2:
                self._start_one()
            self._deal_out(gently=False)
            for worker in self.rng.sample(self._workers, len(self._workers)):
                if worker.stands_still:
                    worker.stands_still -= 1
                    if not worker.stands_still:
                        worker.source.woken()
                    continue
                if self.rng.random() < 0.04:
                    worker.stands_still = self.rng.randrange(1, 12)
                    continue
                try:
                    worker.step(gently=False)
                except Killed:
                    self._gone(worker)
        self._end_well()

    def _end_well(self) -> None:
        """All workers resume, another one starts, and everything is read to its end."""
        self._start_one()
        for worker in self._workers:
            worker.ends_in = None
            if worker.stands_still:
                worker.stands_still = 0
                worker.source.woken()
        for _ in range(500):
            self.seconds += 1.0
            self._grow()
            self._deal_out(gently=True)
            for worker in list(self._workers):
                worker.step(gently=True)
            if not self._coming and not self.leaving and self._is_all_counted() and self._is_nobody_fenced():
                break
        else:
            raise AssertionError("the workers do not come to rest")
        for worker in self._workers:
            for task in worker.work.tasks():
                task.unstored += task.engine.finish().changes
            worker.store.share = 0.0
            worker.monitor.retry_now()
            worker.monitor.store_waiting()

    def _is_all_counted(self) -> bool:
        """Returns whether all partitions have a task, sources are read, and shares are informed of all of it."""
        each = [item for worker in self._workers for item in worker.work.partitions.items()]
        held = {stream: held for stream, held in each if held.task}
        ends = {name: len(self.logs[name]) for name in PARTITIONS[:SOURCES]}
        inboxes = [one.inbox for one in held.values() if one.inbox is not None]
        read = all(worker.source.read_all() for worker in self._workers)
        return len(held) == len(PARTITIONS) and read and all(inbox.upto == ends for inbox in inboxes)

    def _is_nobody_fenced(self) -> bool:
        """Returns whether all task owners made the last claim; others learn of it at their next snapshot."""
        tasks = [task for worker in self._workers for task in worker.work.tasks()]
        return all(task.claim is not None and self.final.holds(task.claim) for task in tasks)

    def differences(self) -> list[str]:
        """Returns rules whose findings differ from the oracle's, with both; and skipped offsets."""
        wrong = [f"gap {gap}" for gap in self.gaps]
        for rule, told in zip(self.chosen, self.rules, strict=True):
            expected, ours = oracle.findings(self.events, oracle_rule(rule)), stored(self.final, told)
            if expected != ours:
                wrong.append(f"{rule}\n  expected {expected}\n  have     {ours}")
        return wrong

    def close(self) -> None:
        for worker in self._workers:
            with suppress(Exception):
                worker.store.close()
        self.final.close()


def play(seed: int, break_it: Callable[[SimulatedWorker], None] = lambda worker: None) -> list[str]:
    """Runs a schedule; returns the faults at the end."""
    world = WorkersSimulation(seed, break_it)
    try:
        world.play()
        return world.differences()
    finally:
        world.close()
