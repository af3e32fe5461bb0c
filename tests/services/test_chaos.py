"""Kill -9 at random points: findings and counts are the oracle's, none lost, none doubled.

`make chaos` is the long one. A failing run prints its seed; CHAOS_SEED runs that schedule again.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from kafka import KafkaProducer

import oracle
from look_ups import HOUR, ORACLE_RULES, RULES, all_findings, in_oracles_terms, iso, look_ups
from servers import CUSTODES, Kafka, Server, free_port, get_json

KILLS = int(os.environ.get("CHAOS_KILLS", "10"))
EVENTS = int(os.environ.get("CHAOS_EVENTS", "100000"))
SEED = int(os.environ.get("CHAOS_SEED", random.randrange(1 << 32)))
PARTITIONS = 3

pytestmark = [pytest.mark.services, pytest.mark.timeout(240 + 10 * KILLS)]


class Sender:
    """Sends events little by little, so that there is always something on its way when the worker dies."""

    def __init__(self, broker: Kafka, topic: str, events: list[dict[str, Any]], seconds: float) -> None:
        self._producer = KafkaProducer(bootstrap_servers=broker.bootstrap, linger_ms=5)
        self._topic, self._events, self._seconds = topic, events, seconds
        self._rng = random.Random(SEED)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        begun = time.monotonic()
        for at, event in enumerate(self._events):
            self._send(event, self._rng.randrange(PARTITIONS))
            while at / len(self._events) > (time.monotonic() - begun) / self._seconds:
                time.sleep(0.005)

    def _send(self, event: dict[str, Any], partition: int) -> None:
        line = json.dumps({**event, "time": iso(event["time"])}).encode()
        self._producer.send(self._topic, value=line, partition=partition)

    def finish(self, after: dict[str, Any]) -> None:
        """Waits until all is sent, and ends every partition with ``after``."""
        self._thread.join()
        for partition in range(PARTITIONS):
            self._send(after, partition)
        self._producer.flush()
        self._producer.close()


def test_killed_again_and_again_it_finds_what_the_oracle_finds(kafka: Kafka, tmp_path: Path) -> None:
    print(f"CHAOS_SEED={SEED} CHAOS_KILLS={KILLS} CHAOS_EVENTS={EVENTS}")  # noqa: T201 - to run it again
    rng = random.Random(SEED)
    kafka.create_topic("chaos", PARTITIONS)
    span = 5 * HOUR * max(1, EVENTS // 100_000)
    events = look_ups(rng, EVENTS, int(time.time()) * 1_000_000 - span - 10 * HOUR, span)
    last = {"time": events[-1]["time"] + 3 * HOUR, "actor": "nobody", "action": "none"}
    port = free_port()
    config = {
        "source": {"kafka": {"bootstrap_servers": [kafka.bootstrap], "topics": ["chaos"], "group_id": "chaos"}},
        "rules": ["rules.yml"],
        "state": {"interval": "1s"},
        "http": {"listen": f"127.0.0.1:{port}"},
    }
    (tmp_path / "rules.yml").write_text(RULES)
    (tmp_path / "custodes.yaml").write_text(yaml.safe_dump(config))
    base = f"http://127.0.0.1:{port}"
    sender = Sender(kafka, "chaos", events, seconds=1.5 * KILLS)

    def run() -> Server:
        return Server(tmp_path / "monitor", [CUSTODES, "run", "-c", tmp_path / "custodes.yaml"])

    for _ in range(KILLS):
        server = run()
        # From before it has read a snapshot to some snapshots later.
        killed_at = time.monotonic() + rng.uniform(0.2, 3.0)
        while time.monotonic() < killed_at:
            assert server.process.poll() is None, server.log.read_text()[-4000:]
            time.sleep(0.01)
        server.process.kill()
        server.stop()
    server = run()
    sender.finish(last)
    expected = {rule_id: oracle.findings(events, rule) for rule_id, rule in ORACLE_RULES.items()}

    def settled() -> list[dict[str, Any]] | None:
        if get_json(f"{base}/api/v1/status")["lag_records"]:
            return None
        found = all_findings(base)
        return found if found and all(finding["closed_at"] for finding in found) else None

    found = server.wait_for("all findings to close", settled, 120)
    assert server.stop() == 0
    for rule_id in ORACLE_RULES:
        ours = in_oracles_terms(found, rule_id)
        assert expected[rule_id], "the stream must be worth counting"
        lost = [one for one in expected[rule_id] if one not in ours]
        doubled_or_wrong = [one for one in ours if one not in expected[rule_id]]
        assert (lost, doubled_or_wrong) == ([], [])
        assert len(ours) == len(expected[rule_id])
