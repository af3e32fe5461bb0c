"""A stream of look-ups, three rules, and the oracle's findings: for tests on real servers."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from kafka import KafkaProducer

import oracle
from servers import Kafka, get_json

HOUR = 3_600_000_000
"""One hour in microseconds, the unit of all times here."""

RULES = """
title: Read
name: read
logsource: {product: custodes}
detection:
    selection: {action: read}
    condition: selection
---
title: Many look-ups
id: 11111111-1111-4111-8111-111111111111
level: medium
correlation:
    type: event_count
    rules: [read]
    group-by: [actor]
    timespan: 10m
    condition: {gte: 40}
custodes: {keep_open: 5m}
---
title: Many people
id: 22222222-2222-4222-8222-222222222222
level: high
correlation:
    type: value_count
    rules: [read]
    group-by: [actor]
    timespan: 1h
    condition: {field: subject, gte: 60}
---
title: Watched by many
id: 33333333-3333-4333-8333-333333333333
level: low
correlation:
    type: value_count
    rules: [read]
    group-by: [subject]
    timespan: 30m
    condition: {field: actor, gte: 12}
"""

ORACLE_RULES = {
    "11111111-1111-4111-8111-111111111111": oracle.OracleRule(
        ["actor"], 600, keep_open=300, where=lambda e: e["action"] == "read", **oracle.gte(40)
    ),
    "22222222-2222-4222-8222-222222222222": oracle.OracleRule(
        ["actor"], 3600, distinct="subject", resolution=6, where=lambda e: e["action"] == "read", **oracle.gte(60)
    ),
    "33333333-3333-4333-8333-333333333333": oracle.OracleRule(
        ["subject"], 1800, distinct="actor", resolution=3, where=lambda e: e["action"] == "read", **oracle.gte(12)
    ),
}


def iso(micros: int) -> str:
    return datetime.fromtimestamp(micros / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def micros(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1e6)


def look_ups(rng: random.Random, count: int, start: int, span: int) -> list[dict[str, Any]]:
    """Generates events from ``start`` over ``span``, ordered by time."""
    times = sorted(start + rng.randrange(span) // 1000 * 1000 for _ in range(count))
    return [
        {
            "time": time,
            "actor": f"P{int(900 * rng.random() ** 2.2):04}",
            "subject": rng.choice([f"S{int(rng.paretovariate(0.5)) % 5000}", rng.randrange(10_000), None]),
            "action": "read" if rng.random() < 0.9 else "change",
        }
        for time in times
    ]


def all_findings(base: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        page = get_json(f"{base}/api/v1/findings?limit=1000{after}")
        found += page["findings"]
        if page["next"] is None:
            return found
        after = f"&after={page['next']}"


def in_oracles_terms(found: Iterable[dict[str, Any]], rule_id: str) -> list[oracle.OracleFinding]:
    """Returns the closed findings of a rule from the API, in the oracle's terms."""
    width = ORACLE_RULES[rule_id].resolution * 1_000_000
    return sorted(
        oracle.OracleFinding(
            tuple(finding["group"].values()),
            micros(finding["opened_at"]) // width,
            micros(finding["opened_at"]),
            micros(finding["closed_at"]),
            finding["peak"],
            finding["count"],
        )
        for finding in found
        if finding["rule_id"] == rule_id and finding["closed_at"] is not None
    )


def assert_as_the_oracle(found: list[dict[str, Any]], events: list[dict[str, Any]]) -> None:
    """Asserts that no finding is lost or duplicated and that every figure is right."""
    for rule_id, rule in ORACLE_RULES.items():
        expected, ours = oracle.findings(events, rule), in_oracles_terms(found, rule_id)
        assert expected, "the stream must be worth counting"
        lost = [one for one in expected if one not in ours]
        doubled_or_wrong = [one for one in ours if one not in expected]
        assert (lost, doubled_or_wrong) == ([], []), f"{rule_id}: lost {lost}, doubled or wrong {doubled_or_wrong}"
        assert len(ours) == len(expected)


class EventSender:
    """Sends events in order over a period, and finally one to each partition that closes all findings."""

    def __init__(
        self,
        kafka: Kafka,
        topic: str,
        events: list[dict[str, Any]],
        partitions: int,
        partition_of: Callable[[dict[str, Any]], int],
        seconds: float,
    ) -> None:
        # The broker may be unavailable for a while, and events must stay in order.
        self._producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, linger_ms=5, delivery_timeout_ms=600_000)
        self._producer.partitions_for(topic)
        self._topic, self._events, self._partitions, self._seconds = topic, events, partitions, seconds
        self._partition_of = partition_of
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        begun = time.monotonic()
        for at, event in enumerate(self._events):
            self._send(event, self._partition_of(event))
            while at / len(self._events) * self._seconds > time.monotonic() - begun:
                time.sleep(0.005)

    def _send(self, event: dict[str, Any], partition: int) -> None:
        line = json.dumps({**event, "time": iso(event["time"])}).encode()
        self._producer.send(self._topic, value=line, partition=partition)

    def finish(self) -> None:
        """Waits until all events are sent."""
        self._thread.join()
        end = {"time": self._events[-1]["time"] + 3 * HOUR, "actor": "nobody", "action": "none"}
        for partition in range(self._partitions):
            self._send(end, partition)
        self._producer.flush()
        self._producer.close()
