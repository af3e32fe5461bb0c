"""Temporal correlations: several rules matched by one group within a timespan, each counted once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
from custodes._core import Engine, restore
from custodes.authoring.explain import explain
from custodes.config.mapping import load_mapping
from custodes.findings import FindingAccumulator
from custodes.rules import Rule, build_plan, load_rules
from faults import faults_of
from rule_texts import detection

START = 1_767_600_000
MAPPING = load_mapping("custodes")
RULES = """\
title: Looked, exported and wiped
name: all_three
correlation:
  type: temporal
  rules: [looks, exports, wipes]
  group-by: [actor]
  timespan: 30s
custodes: {keep_open: 10s}
---
title: Two of three
name: two
correlation:
  type: temporal
  rules: [wipes, looks, exports]
  group-by: [actor]
  timespan: 30s
  condition: {gte: 2}
custodes: {keep_open: 10s}
"""
RULES += (
    detection("Looks", "{action: [read, search]}")
    + detection("Exports", "{action: [export, search]}")
    + detection("Wipes", "{resource: log, action: delete}")
)


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> list[Rule]:
    path = tmp_path_factory.mktemp("rules") / "rules.yml"
    path.write_text(RULES)
    return load_rules([path])


def met(event: dict[str, Any]) -> list[str]:
    """Returns the matching one of the three rules for an event."""
    action = event["action"]
    wipes = action == "delete" and event["resource"] == "log"
    return [
        *(["looks"] if action in ("read", "search") else []),
        *(["exports"] if action in ("export", "search") else []),
        *(["wipes"] if wipes else []),
    ]


def in_order(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(listed, key=lambda event: int(event["time"]))


events = st.lists(
    st.fixed_dictionaries(
        {
            "time": st.integers(0, 120).map(lambda second: START + second),
            "actor": st.sampled_from(["a", "b"]),
            "action": st.sampled_from(["read", "search", "export", "delete", "update"]),
            "resource": st.sampled_from(["log", "person"]),
        }
    ),
    max_size=40,
)


@given(events, st.integers(0, 40))
def test_temporal_equals_the_oracle_also_over_a_restart(
    rules: list[Rule], listed: list[dict[str, Any]], cut: int
) -> None:
    stream = in_order(listed)
    plan, ledger = build_plan(rules, MAPPING), FindingAccumulator(rules)
    engine = Engine(plan)
    for some in (stream[:cut], stream[cut:]):
        ledger.apply(engine.process_lines(b"".join(json.dumps(event).encode() + b"\n" for event in some)).changes)
        ledger.apply(engine.updates())
        frame = engine.save_frame()
        parts = [b"".join(engine.save_part(part, {})) for part in range(engine.parts())]
        restored = restore(plan, frame, parts)
        dropped = restored.dropped
        assert (dropped.windows, dropped.decisions, dropped.orphans) == ([], [], [])
        engine = restored.engine
    ledger.apply(engine.finish().changes)
    known = [{**event, "time": event["time"] * 1_000_000, "met": met(event)} for event in stream]
    for rule, need in zip(rules, (3, 2), strict=True):
        same = oracle.OracleRule(
            rule.group_by, 30, distinct="met", keep_open=10, where=lambda event: bool(event["met"]), **oracle.gte(need)
        )
        found = [
            (one.shown["actor"], one.opened_at, one.closed_at, one.peak, one.count)
            for one in ledger.findings()
            if one.rule == rule.title
        ]
        expected = [
            (one.group[0], one.opened_at, one.closed_at, one.peak, one.count) for one in oracle.findings(known, same)
        ]
        assert sorted(found, key=str) == sorted(expected, key=str)


def test_the_counted_value_is_described(rules: list[Rule], tmp_path: Path) -> None:
    assert rules[0].counts == "rules met, of Looks, Exports, Wipes"
    assert (rules[0].holds, rules[1].holds) == ({"gte": 3}, {"gte": 2})
    told = explain(rules[0], MAPPING, b'{"time": 1767600000, "actor": "a", "action": "search"}')
    assert (told.counts, told.counted) == (True, ["Looks", "Exports"])


def test_one_rule_is_not_enough(tmp_path: Path) -> None:
    path = tmp_path / "rules.yml"
    path.write_text(RULES.replace("rules: [looks, exports, wipes]", "rules: [looks]", 1))
    assert faults_of(path) == [f"{path}:5: temporal requires two rules or more"]
