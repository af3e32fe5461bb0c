"""Limits on memory and findings: excess is reported and stored, with its interval."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from custodes.config.memory import half_of_memory
from custodes.findings.store import FindingStore
from custodes.rules import load_rules
from harness import MonitorHarness, look_ups

RULES = """\
title: Many people
name: many
correlation:
  type: value_count
  rules: [reads]
  group-by: [actor]
  timespan: 10m
  condition: {field: subject, gte: 10}
---
title: Reads
name: reads
logsource: {category: database}
detection:
  selection: {action: read}
  condition: selection
"""
MANY = '{rule="Many people"}'

Maker = Callable[..., MonitorHarness]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Maker]:
    made: list[MonitorHarness] = []

    def make(**limits: Any) -> MonitorHarness:
        (tmp_path / "rules.yml").write_text(RULES)
        made.append(MonitorHarness(tmp_path, load_rules([tmp_path / "rules.yml"]), **limits))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


def shortfalls(bench: MonitorHarness) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = asyncio.run(bench.get("/api/v1/shortfalls")).json()["shortfalls"]
    return found


def flood(bench: MonitorHarness, at: float) -> None:
    """Generates enough actors to exceed one megabyte."""
    bench.feed(look_ups([f"{at}/{n}" for n in range(5000)], ["s1", "s2"], at))


def test_memory_is_limited_and_evictions_are_recorded(make: Maker) -> None:
    bench = make(memory=2 << 20)
    assert bench.value("custodes_engine_memory_limit_bytes") == 2 << 20
    bench.feed(look_ups(["close"], [f"s{n}" for n in range(6)]))
    for second in range(0, 200, 20):
        bench.now += 20
        flood(bench, second)
    assert bench.value("custodes_engine_bytes") < 3 << 20
    groups = bench.value(f"custodes_evicted_groups_total{MANY}")
    assert 30_000 < groups < 50_000
    assert bench.value(f"custodes_evicted_values_total{MANY}") >= 2 * groups
    bench.feed(look_ups(["close"], [f"s{n}" for n in range(6, 10)], at=190))
    assert bench.value('custodes_findings_total{level="medium",rule="Many people"}') == 1, (
        "it was close to its threshold"
    )
    (shortfall,) = shortfalls(bench)
    assert (shortfall["kind"], shortfall["rule_id"], shortfall["groups"]) == ("memory", "many", groups)
    # Ten minutes after the last eviction, all of it would have left the window.
    assert shortfall["until"] == "2026-01-05T08:13:20.000Z"
    bench.now += 601
    bench.feed()
    flood(bench, 820)
    flood(bench, 840)
    flood(bench, 860)
    assert [one["since"] for one in shortfalls(bench)] == ["2026-01-05T08:13:21.000Z", "2026-01-05T08:00:40.000Z"]


def test_a_fruitless_eviction_is_not_repeated_for_every_batch(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = make(memory=1 << 20)
    # Each of these has a finding.
    for at in range(3):
        bench.feed(look_ups([f"{at}/{n}" for n in range(1000)], [f"s{n}" for n in range(10)]))
    used = bench.value("custodes_engine_bytes")
    assert used > 1 << 20
    assert shortfalls(bench) == []
    for _ in range(5):
        bench.feed(look_ups(["one more"], ["s"]))
    assert bench.value(f"custodes_evicted_groups_total{MANY}") == 0


def test_a_storm_is_limited_and_summarized(make: Maker) -> None:
    bench = make(most_open=100)
    bench.feed(look_ups([f"a{n}" for n in range(1000)], [f"s{n}" for n in range(10)]))
    opened = bench.value('custodes_open_findings{level="medium",rule="Many people"}')
    assert 50 <= opened <= 100
    assert bench.value(f"custodes_findings_suppressed{MANY}") == 1000 - opened
    bench.now += 30
    bench.feed(look_ups(["worse"], [f"s{n}" for n in range(40)], at=5))
    page = bench.store.page(1000, open_only=True)
    assert [one.peak for one in page.findings if one.shown["actor"] == "worse"] == [40], (
        "twice the threshold stands out"
    )
    (shortfall,) = shortfalls(bench)
    assert (shortfall["kind"], shortfall["since"]) == ("storm", "2026-01-05T08:00:00.000Z")
    assert shortfall["until"] == "2026-01-05T08:00:30.000Z"
    assert shortfall["groups"] in (1000 - opened, 1001 - opened)
    for hour in (1, 2, 3):
        bench.now += 3600
        bench.feed(look_ups(["calm"], ["s"], at=3600 * hour))
    assert bench.value(f"custodes_findings_suppressed{MANY}") == 0
    bench.feed()
    assert shortfalls(bench) == [shortfall]


def test_a_shortfall_waits_for_a_refusing_database(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = make(most_open=4)

    def refuse(*_: object) -> None:
        raise OperationalError("insert", {}, Exception("disk full"))

    with monkeypatch.context() as patch:
        patch.setattr(FindingStore, "record_shortfalls", refuse)
        bench.feed(look_ups([f"a{n}" for n in range(100)], [f"s{n}" for n in range(10)]))
        for hour in (1, 2, 3):
            bench.feed(look_ups(["calm"], ["s"], at=3600 * hour))
        assert shortfalls(bench) == []
    bench.feed()
    assert [one["kind"] for one in shortfalls(bench)] == ["storm"]


def test_the_default_is_half_of_the_machine_or_of_the_smallest_limit(tmp_path: Path) -> None:
    machine = half_of_memory(tmp_path)
    assert 64 << 20 < machine < 1 << 44
    service = tmp_path / "sys/fs/cgroup/system.slice/custodes.service"
    service.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/system.slice/custodes.service\n")
    (service / "memory.max").write_text("max\n")
    assert half_of_memory(tmp_path) == machine
    (service.parent / "memory.max").write_text(f"{96 << 20}\n")
    assert half_of_memory(tmp_path) == 48 << 20
    (service / "memory.max").write_text(f"{32 << 20}\n")
    assert half_of_memory(tmp_path) == 16 << 20
