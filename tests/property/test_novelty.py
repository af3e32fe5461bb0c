"""New values and dormant groups, compared with a second, slow implementation."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
from custodes._core import Engine
from custodes.config import FaultsError
from custodes.config.mapping import load_mapping
from custodes.rules import Rule, build_plan, load_rules
from custodes.rules.novelty import DormantGroups, NewValues
from faults import faults_of
from restarts import findings_over_restarts

START = 1_767_571_200
"""2026-01-05T00:00:00Z."""
DAY = 86_400
OFFSET = {"UTC": 0, "Asia/Shanghai": 8 * 3600, "America/New_York": -5 * 3600}
RULE = """\
title: Never seen before
correlation:
  type: value_count
  rules: [looks]
  group-by: [actor]
  timespan: 6h
  condition: {field: resource, gte: 1}
custodes:
  resolution: 1h
  new: {over: 6d, after: 3d}
---
title: Looks
name: looks
logsource: {product: custodes}
detection: {selection: {action: read}, condition: selection}
"""


@pytest.fixture(scope="module")
def rule(tmp_path_factory: pytest.TempPathFactory) -> Rule:
    path = tmp_path_factory.mktemp("rules") / "rules.yml"
    path.write_text(RULE)
    return load_rules([path])[0]


def new_values(events: list[dict[str, Any]], sieve: NewValues, offset: int) -> dict[int, list[str]]:
    """Returns, by position, the values of an event that are new to its actor; events without any are omitted."""
    days = [(event["time"] + offset) // DAY for event in events]
    over, after = sieve.over.days, sieve.after.days
    by_actor: dict[str, set[int]] = defaultdict(set)
    by_value: dict[tuple[str, str], set[int]] = defaultdict(set)
    for event, day in zip(events, days, strict=True):
        by_actor[event["actor"]].add(day)
        for value in event["resource"]:
            by_value[event["actor"], value].add(day)

    def is_known(actor: str, day: int) -> bool:
        before = sorted(one for one in by_actor[actor] if one <= day - 2)
        if not before or day - before[-1] > over:
            return False
        since = before[0]
        for one, following in pairwise(before):
            if following - one > over:
                since = following
        return day - since >= after

    def is_new(actor: str, value: str, day: int) -> bool:
        return not any(day - over <= one <= day - 2 for one in by_value[actor, value])

    kept = {
        at: [value for value in event["resource"] if is_new(event["actor"], value, day)]
        for at, (event, day) in enumerate(zip(events, days, strict=True))
        if is_known(event["actor"], day)
    }
    return {at: values for at, values in kept.items() if values}


def waking(events: list[dict[str, Any]], sieve: DormantGroups, offset: int) -> dict[int, list[str]]:
    """Returns, by position, the values of events of actors that were dormant."""
    kept = {}
    for at, event in enumerate(events):
        day = (event["time"] + offset) // DAY
        days = [(one["time"] + offset) // DAY for one in events if one["actor"] == event["actor"]]
        before = max((one for one in days if one <= day - 2), default=None)
        if before is not None and day - before > sieve.silent.days:
            kept[at] = event["resource"]
    return kept


def made_up(rng: random.Random) -> list[dict[str, Any]]:
    """Generates actors with working days and pauses, and values that rarely change."""
    events: list[dict[str, Any]] = []
    for actor in range(rng.randint(1, 4)):
        day, known = 0, ["r0"]
        while day < 40:
            if rng.random() < 0.3:
                known.append(f"r{rng.randrange(8)}")
            events += [
                {
                    "time": START + day * DAY + rng.randrange(DAY),
                    "actor": f"P{actor}",
                    "resource": [rng.choice(known) for _ in range(rng.randint(0, 2))],
                    "action": "read",
                }
                for _ in range(rng.randint(1, 4))
            ]
            day += rng.choice([1, 1, 1, 2, 3, rng.randint(4, 12)])
    return sorted(events, key=lambda event: int(event["time"]))


@settings(deadline=None)
@given(
    st.integers(0, 10**9),
    st.one_of(
        st.tuples(st.integers(2, 9), st.integers(2, 9)).map(
            lambda days: NewValues(field="resource", over=timedelta(max(days)), after=timedelta(min(days)))
        ),
        st.integers(2, 9).map(lambda days: DormantGroups(silent=timedelta(days))),
    ),
    st.booleans(),
    st.sampled_from(list(OFFSET)),
)
def test_findings_equal_the_oracle_in_any_order_and_over_restarts(
    rule: Rule, seed: int, sieve: NewValues | DormantGroups, counts_values: bool, zone: str
) -> None:
    rng = random.Random(seed)
    need = rng.choice([1, 2])
    rule = replace(rule, sieve=sieve, distinct="resource" if counts_values else None, holds={"gte": need})
    events = made_up(rng)
    plan = build_plan([rule], load_mapping("custodes", zone), allowed_lateness=timedelta(hours=3))
    stream = sorted(events, key=lambda event: event["time"] + rng.randrange(7200))
    told = findings_over_restarts([rule], plan, stream, rng)

    sift = (
        new_values(events, sieve, OFFSET[zone]) if isinstance(sieve, NewValues) else waking(events, sieve, OFFSET[zone])
    )
    kept = [{**events[at], "time": events[at]["time"] * 1_000_000, "resource": values} for at, values in sift.items()]
    same = oracle.OracleRule(
        ["actor"], 6 * 3600, distinct="resource" if counts_values else None, resolution=3600, **oracle.gte(need)
    )
    found = [(one.shown["actor"], one.opened_at, one.closed_at, one.peak, one.count) for one in told]
    expected = [
        (one.group[0], one.opened_at, one.closed_at, one.peak, one.count) for one in oracle.findings(kept, same)
    ]
    assert sorted(found, key=str) == sorted(expected, key=str)


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("new: {ovr: 3d}", "10: custodes.new.ovr: unknown key (did you mean 'over'?)"),
        ("new: {over: 60h}", "10: custodes.new.over: must be whole days"),
        ("new: {over: 3d, after: 1d}", "10: custodes.new.after: Input should be greater than or equal to 2 days"),
        ("new: {over: 5d, after: 6d}", "10: custodes.new: 'after' is longer than 'over'"),
        ("new: much", "10: custodes.new must be a mapping, like {field: resource}"),
        ("dormant: 1d", "10: custodes.dormant: Input should be greater than or equal to 2 days"),
        ("dormant: 30d\n  new: true", "10: custodes.new and custodes.dormant cannot be combined"),
    ],
)
def test_an_invalid_novelty_filter_is_an_error_with_its_line(said: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "rules.yml"
    path.write_text(RULE.replace("new: {over: 6d, after: 3d}", said))
    assert faults_of(path) == [f"{path}:{fault}"]


def test_a_detection_without_correlation_can_have_one(tmp_path: Path) -> None:
    path = tmp_path / "rules.yml"
    path.write_text(
        "title: Wakes\nlogsource: {product: custodes}\ndetection: {s: {action: read}, condition: s}\n"
        "custodes: {dormant: 45d}\n"
    )
    (wakes,) = load_rules([path])
    assert wakes.sieve == DormantGroups(silent=timedelta(45))
    assert wakes.counts == "events, of events after more than 45 days of silence"
    path.write_text(path.read_text().replace("dormant: 45d", "new: true"))
    with pytest.raises(FaultsError, match=r"custodes.new.field: Field required"):
        load_rules([path])
    path.write_text(path.read_text().replace("new: true", "baseline: {of: self}"))
    with pytest.raises(FaultsError, match="a baseline requires a correlation"):
        load_rules([path])


def test_the_counted_value_is_described(rule: Rule) -> None:
    assert rule.counts == "distinct resource, of events with a resource not seen within 6 days"


def test_repartitioned_events_contain_the_novelty_field(rule: Rule) -> None:
    rule = replace(rule, distinct=None)
    plan = build_plan(
        [], load_mapping("custodes"), handed_on=[rule], shares=1, among_workers={"fingerprint_key": "0" * 32}
    )
    engine = Engine(plan)
    event = {"time": START, "actor": "P0", "resource": ["r1"], "action": "read", "app": "x"}
    (batch,) = engine.process_lines(json.dumps(event).encode()).repartition_batches
    assert b'"resource":["r1"]' in batch.events
    assert b"app" not in batch.events
