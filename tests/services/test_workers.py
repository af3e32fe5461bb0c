"""Several workers on one topic: each counts a share, and together they find what one would."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kafka import KafkaProducer

import oracle
from look_ups import HOUR, ORACLE_RULES, RULES, all_findings, in_oracles_terms, iso, look_ups
from servers import CUSTODES, Kafka, PostgreSQL, Server, eventually, free_port, get_json

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

PARTITIONS = 6


class Worker:
    """One `custodes run`, again and again in the same place."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        folder.mkdir(parents=True)
        port = free_port()
        self.base = f"http://127.0.0.1:{port}"
        self._folder = folder
        self._config = folder / "custodes.yaml"
        self._config.write_text(yaml.safe_dump({**config, "http": {"listen": f"127.0.0.1:{port}"}}))
        (folder / "rules.yml").write_text(RULES)
        self.server: Server | None = None

    def start(self) -> Server:
        self.server = Server(self._folder, [CUSTODES, "run", "-c", self._config])
        return self.server

    @property
    def runs(self) -> bool:
        return self.server is not None and self.server.process.poll() is None

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = get_json(f"{self.base}/api/v1/status")
        return status


class Team:
    """Workers that share a topic and a database."""

    def __init__(self, kafka: Kafka, database: str, topic: str, folder: Path, size: int) -> None:
        source = {"bootstrap_servers": [kafka.bootstrap], "topics": [topic], "group_id": topic}
        client = {"metadata_max_age_ms": 2000, "session_timeout_ms": 6000, "heartbeat_interval_ms": 1000}
        workers = {
            "keyed_by": ["actor"],
            "repartition_topic": f"{topic}-repartition",
            "state_topic": f"{topic}-state",
        }
        config = {
            "source": {"kafka": {**source, "client": client}},
            "rules": ["rules.yml"],
            "state": {"interval": "2s"},
            "event_time": {"idle_after": "3s"},
            "findings": {"database": database},
            "workers": workers,
        }
        self.workers = [Worker(folder / f"worker{at}", config) for at in range(size)]

    def a_base(self) -> str:
        return next(worker.base for worker in self.workers if worker.runs)

    def settled(self) -> list[dict[str, Any]] | None:
        """All findings, once everything is read and all of them are closed."""
        for worker in self.workers:
            if worker.runs and worker.status()["lag_records"]:
                return None
        found = all_findings(self.a_base())
        return found if found and all(finding["closed_at"] for finding in found) else None

    def logs(self) -> str:
        return "\n".join(
            f"--- {at}\n{worker.server.log.read_text()[-3000:]}"
            for at, worker in enumerate(self.workers)
            if worker.server is not None
        )

    def stop(self) -> list[int]:
        return [worker.server.stop() for worker in self.workers if worker.server is not None]


TeamMaker = Callable[[str, int, int], Team]


@pytest.fixture
def team(kafka: Kafka, postgresql: PostgreSQL, tmp_path: Path) -> Iterator[TeamMaker]:
    made: list[Team] = []

    def make(topic: str, partitions: int, size: int) -> Team:
        kafka.create_topic(topic, partitions)
        made.append(Team(kafka, postgresql.database(topic), topic, tmp_path, size))
        return made[-1]

    yield make
    for one in made:
        for worker in one.workers:
            if worker.runs and worker.server is not None:
                worker.server.kill()


def keyed(event: dict[str, Any], partitions: int) -> int:
    """The partition of an event, as a producer that keys by actor has it."""
    return random.Random(str(event["actor"])).randrange(partitions)


def send(kafka: Kafka, topic: str, events: list[dict[str, Any]], partitions: int) -> None:
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, linger_ms=5)
    for event in events:
        line = json.dumps({**event, "time": iso(event["time"])}).encode()
        producer.send(topic, value=line, partition=event.get("partition", keyed(event, partitions)))
    producer.flush()
    producer.close()


def check(found: list[dict[str, Any]], events: list[dict[str, Any]]) -> None:
    for rule_id, rule in ORACLE_RULES.items():
        expected, ours = oracle.findings(events, rule), in_oracles_terms(found, rule_id)
        assert expected, "the stream must be worth counting"
        lost = [one for one in expected if one not in ours]
        doubled_or_wrong = [one for one in ours if one not in expected]
        assert (lost, doubled_or_wrong) == ([], []), rule_id
        assert len(ours) == len(expected)


def test_three_workers_find_what_one_would(kafka: Kafka, team: TeamMaker) -> None:
    three = team("three", PARTITIONS, 3)
    rng = random.Random(5)
    events = look_ups(rng, 30_000, int(time.time()) * 1_000_000 - 20 * HOUR, 2 * HOUR)
    ends = [
        {"time": events[-1]["time"] + 3 * HOUR, "actor": "nobody", "action": "none", "partition": at}
        for at in range(PARTITIONS)
    ]
    servers = [worker.start() for worker in three.workers]
    for worker, server in zip(three.workers, servers, strict=True):
        server.wait_for("it to have partitions", lambda worker=worker: worker.status()["streams"] >= 3)
    send(kafka, "three", events + ends, PARTITIONS)
    found = eventually("all findings to close", three.settled, 60)
    check(found, events)
    assert three.stop() == [0, 0, 0]
