"""A stream of look-ups, three rules over it, and what the oracle says of them: for tests on real servers."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import oracle
from servers import get_json

HOUR = 3_600_000_000
"""In microseconds, as all times here."""

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
    "11111111-1111-4111-8111-111111111111": oracle.Rule(
        ["actor"], 600, keep_open=300, where=lambda e: e["action"] == "read", **oracle.gte(40)
    ),
    "22222222-2222-4222-8222-222222222222": oracle.Rule(
        ["actor"], 3600, distinct="subject", resolution=6, where=lambda e: e["action"] == "read", **oracle.gte(60)
    ),
    "33333333-3333-4333-8333-333333333333": oracle.Rule(
        ["subject"], 1800, distinct="actor", resolution=3, where=lambda e: e["action"] == "read", **oracle.gte(12)
    ),
}


def iso(micros: int) -> str:
    return datetime.fromtimestamp(micros / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def micros(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1e6)


def look_ups(rng: random.Random, count: int, start: int, span: int) -> list[dict[str, Any]]:
    """Events from ``start`` on, over ``span``, in order of time."""
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


def in_oracles_terms(found: Iterable[dict[str, Any]], rule_id: str) -> list[oracle.Finding]:
    """The API's closed findings of a rule."""
    width = ORACLE_RULES[rule_id].resolution * 1_000_000
    return sorted(
        oracle.Finding(
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
