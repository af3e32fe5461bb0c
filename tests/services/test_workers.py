"""Several workers on one topic: each counts a share, and together they produce the findings of one process."""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from sample_events import HOUR, RULES, EventSender, all_findings, assert_as_the_oracle, look_ups
from servers import CUSTODES, Kafka, PostgreSQL, Server, eventually, free_port, get, get_json

MINUTES = float(os.environ.get("CHAOS_MINUTES", "0.75"))
SEED = int(os.environ.get("CHAOS_SEED", random.randrange(1 << 32)))
PER_SECOND = 800
"""Events that are sent during the chaos."""

pytestmark = [
    pytest.mark.services,
    pytest.mark.timeout(700 + 90 * MINUTES),
]


class WorkerProcess:
    """One `custodes run`, restartable in the same folder."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        folder.mkdir(parents=True)
        port = free_port()
        self.base = f"http://127.0.0.1:{port}"
        self._folder = folder
        self._config = folder / "custodes.yaml"
        self._settings = {**config, "http": {"listen": f"127.0.0.1:{port}"}}
        self.change({})
        (folder / "rules.yml").write_text(RULES)
        self.server: Server | None = None

    def change(self, settings: dict[str, Any]) -> None:
        """Changes the settings of some sections for the next start."""
        self._settings |= settings
        self._config.write_text(yaml.safe_dump(self._settings))

    def start(self) -> Server:
        if self.server is None:
            self.server = Server(self._folder, [CUSTODES, "run", "-c", self._config])
        else:
            self.server.start_again()
        return self.server

    @property
    def runs(self) -> bool:
        return self.server is not None and self.server.process.poll() is None

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = get_json(f"{self.base}/api/v1/status")
        return status


class Team:
    """Workers that share a topic and a database."""

    def __init__(self, kafka: Kafka, database: str, topic: str, partitions: int, folder: Path, size: int) -> None:
        self._topics, self._partitions = (topic, f"{topic}-repartition"), partitions
        source = {"bootstrap_servers": [kafka.bootstrap], "topics": [topic], "group_id": topic}
        client = {"metadata_max_age_ms": 2000, "session_timeout_ms": 6000, "heartbeat_interval_ms": 1000}
        workers = {
            "keyed_by": ["actor"],
            "repartition_topic": f"{topic}-repartition",
            "state_topic": f"{topic}-state",
        }
        self.settings: dict[str, Any] = {
            "source": {"kafka": {**source, "client": client}},
            "rules": ["rules.yml"],
            "state": {"interval": "2s"},
            # Hours pass in seconds here: other partitions would run hours ahead of an idle one. A broker that restarts
            # on a busy machine can be silent for minutes.
            "event_time": {"idle_after": "30m"},
            "findings": {"database": database},
            "workers": workers,
        }
        self.workers = [WorkerProcess(folder / f"worker{at}", self.settings) for at in range(size)]

    def a_base(self) -> str:
        return next(worker.base for worker in self.workers if worker.runs)

    def settled(self) -> list[dict[str, Any]] | None:
        """Returns all findings, once every partition has a worker, everything is read, and all are closed."""
        statuses = [worker.status() for worker in self.workers if worker.runs]
        # The lag is unknown while a worker is taking over a partition.
        if any(status["lag_records"] != 0 for status in statuses) or not self._counts_every_partition(statuses[0]):
            return None
        found = all_findings(self.a_base())
        return found if found and all(finding["closed_at"] for finding in found) else None

    def _counts_every_partition(self, status: dict[str, Any]) -> bool:
        counted = sorted(task for worker in status["workers"] for task in worker["tasks"])
        return counted == sorted(f"{topic}/{at}" for topic in self._topics for at in range(self._partitions))

    def logs(self) -> str:
        return "\n".join(
            f"--- {at}\n{worker.server.log.read_text()[-20_000:]}"
            for at, worker in enumerate(self.workers)
            if worker.server is not None
        )

    def stop(self) -> list[int]:
        return [worker.server.stop() for worker in self.workers if worker.server is not None]


TeamMaker = Callable[[Kafka, str, int, int], Team]


@pytest.fixture
def team(postgresql: PostgreSQL, tmp_path: Path) -> Iterator[TeamMaker]:
    made: list[Team] = []

    def make(kafka: Kafka, topic: str, partitions: int, size: int) -> Team:
        kafka.create_topic(topic, partitions)
        made.append(Team(kafka, postgresql.database(topic), topic, partitions, tmp_path, size))
        return made[-1]

    yield make
    for one in made:
        for worker in one.workers:
            if worker.server is not None:
                worker.server.kill()
                worker.server.stop()


def keyed(partitions: int) -> Callable[[dict[str, Any]], int]:
    """Returns the partition of an event for a producer that keys by actor."""
    return lambda event: random.Random(str(event["actor"])).randrange(partitions)


@pytest.mark.parametrize("store", ["topic", "directory"])
def test_three_workers_give_the_findings_of_one(kafka: Kafka, team: TeamMaker, store: str, tmp_path: Path) -> None:
    partitions, name = 6, f"three-{store}"
    three = team(kafka, name, partitions, 3)
    if store == "directory":
        for worker in three.workers:
            worker.change({"workers": three.settings["workers"] | {"state_store": f"file://{tmp_path}/states"}})
    events = look_ups(random.Random(5), 30_000, int(time.time()) * 1_000_000 - 20 * HOUR, 2 * HOUR)
    for worker in three.workers:
        worker.start().wait_for("it to be ready", partial(get, f"{worker.base}/-/ready"))
    sender = EventSender(kafka, name, events, partitions, keyed(partitions), seconds=0)
    sender.finish()
    found = eventually("all findings to close", three.settled, 300)
    assert_as_the_oracle(found, events)
    workers = three.workers[0].status()["workers"]
    assert sorted(task for worker in workers for task in worker["tasks"]) == sorted(
        f"{topic}/{number}" for topic in (name, f"{name}-repartition") for number in range(partitions)
    )
    assert all(len(worker["tasks"]) == 4 for worker in workers)
    # A status is up to one second old.
    everything = len(events) + partitions
    eventually(
        "all events to be counted", lambda: sum(one.status()["events"] for one in three.workers) == everything, 10
    )
    assert three.stop() == [0, 0, 0]
    assert (tmp_path / "states" / "tasks" / name).exists() == (store == "directory")


def test_a_worker_whose_broker_is_away_ends_on_sigterm(team: TeamMaker, tmp_path: Path) -> None:
    kafka = Kafka(tmp_path / "kafka")
    try:
        alone = team(kafka, "without-broker", 3, 1)
        server = alone.workers[0].start()
        base = alone.workers[0].base
        server.wait_for("it to be ready", partial(get, f"{base}/-/ready"))
        events = look_ups(random.Random(1), 300, int(time.time()) * 1_000_000 - 20 * HOUR, HOUR)
        EventSender(kafka, "without-broker", events, 3, keyed(3), seconds=0).finish()
        server.wait_for("all to be counted", lambda: alone.workers[0].status()["events"] == 303)
        kafka.kill()
        # Reports to the shares wait from then on.
        server.wait_for("the loss to be noticed", lambda: "commit_failed" in server.log.read_text())
        begun = time.monotonic()
        assert server.stop(60) == 0
        assert time.monotonic() - begun < 45, "it waits for nothing that needs the broker"
    finally:
        kafka.kill()
        kafka.stop()


class Chaos:
    """Faults of workers and broker, one after another, chosen by the seed."""

    def __init__(self, team: Team, kafka: Kafka, rng: random.Random) -> None:
        self._team, self._kafka, self._rng = team, kafka, rng
        self.did: list[str] = []

    def run(self, until: float) -> None:
        while time.monotonic() < until:
            at = self._rng.randrange(len(self._team.workers))
            act = self._rng.choice(
                [self._kill, self._leave, self._stand_still, self._stand_still, self._lose_the_broker]
            )
            begun = time.monotonic()
            act(self._team.workers[at])
            self.did.append(f"{act.__name__[1:]} {at} ({time.monotonic() - begun:.1f} s)")
            self._wait(0, 4)
            for worker in self._team.workers:
                if not worker.runs and self._rng.random() < 0.7:
                    worker.start()

    def _wait(self, least: float, most: float) -> None:
        """A pause of the schedule without a condition to wait for."""
        time.sleep(self._rng.uniform(least, most))

    def _kill(self, worker: WorkerProcess) -> None:
        if worker.runs and worker.server is not None:
            worker.server.kill()

    def _leave(self, worker: WorkerProcess) -> None:
        if worker.runs and worker.server is not None:
            # A process that has just started does not handle SIGTERM yet.
            assert worker.server.stop(30) in (0, -signal.SIGTERM), worker.server.log.read_text()[-4000:]

    def _stand_still(self, worker: WorkerProcess) -> None:
        """Pauses a worker, usually for longer than its session timeout: it then resumes as a zombie."""
        if worker.runs and worker.server is not None:
            worker.server.process.send_signal(signal.SIGSTOP)
            self._wait(1, 14)
            worker.server.process.send_signal(signal.SIGCONT)

    def _lose_the_broker(self, worker: WorkerProcess) -> None:
        self._kafka.kill()
        self._wait(0, 3)
        self._kafka.start_again()
        self._kafka.wait_for("Kafka to listen", self._kafka.listens, 60)


def test_workers_give_the_oracles_findings_under_random_faults(
    team: TeamMaker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Captured log records would keep kafka-python's connections alive until another test is blamed for them.
    caplog.set_level(logging.CRITICAL, logger="kafka")
    print(f"CHAOS_SEED={SEED} CHAOS_MINUTES={MINUTES}")  # noqa: T201 - to run it again
    rng = random.Random(SEED)
    kafka = Kafka(tmp_path / "kafka")
    partitions = 12
    three = team(kafka, "chaos-workers", partitions, 3)
    seconds = 60 * MINUTES
    count = int(PER_SECOND * seconds)
    # The density in event time does not depend on the duration.
    span = count * HOUR // 15_000
    events = look_ups(rng, count, int(time.time()) * 1_000_000 - span - 20 * HOUR, span)
    chaos = Chaos(three, kafka, rng)
    try:
        three.workers[0].start()
        sender = EventSender(kafka, "chaos-workers", events, partitions, keyed(partitions), seconds)
        chaos.run(time.monotonic() + seconds)
        for worker in three.workers:
            if not worker.runs:
                worker.start()
        sender.finish()
        print("\n".join(chaos.did))  # noqa: T201 - what happened
        found = eventually("all findings to close", three.settled, 400)
        assert get_json(f"{three.a_base()}/api/v1/gaps")["gaps"] == []
        assert_as_the_oracle(found, events)
        assert three.stop() == [0, 0, 0]
    except BaseException:
        print(three.logs())  # noqa: T201 - what happened
        raise
    finally:
        kafka.stop()
        # Collect kafka-python's leaked connections here, so that the next test does not report them.
        gc.collect()
