"""Sigma detections mean what Sigma defines: each modifier with matching and other events."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custodes._core import Engine
from custodes.config import FaultsError
from custodes.config.mapping import load_mapping
from custodes.rules import Rule, Ruleset, build_plan, load_rules, sharing_faults, shipped_pack
from custodes.rules.timing import default_resolution
from rule_texts import detection

EVENT = {
    "time": "2026-01-05T08:00:00Z",
    "actor": "P0042",
    "subject": ["S1", "S2"],
    "resource": "hotel.checkin",
    "client_ip": "10.1.2.3",
    "count": 12,
    "note": "Call 110 * now?",
    "nothing": None,
    "flag": True,
    "request": {"user": {"name": "Müller"}, "tables": [{"id": 7}, {"id": "x"}]},
    "path": "C:\\data\\out.csv",
}


def matches(tmp_path: Path, detection: dict[str, Any], condition: str = "selection") -> bool:
    """Returns whether a rule with this detection fires on :data:`EVENT`."""
    rule = {"title": "t", "logsource": {"product": "custodes"}, "detection": {**detection, "condition": condition}}
    path = tmp_path / "rule.yml"
    path.write_text(json.dumps(rule))
    engine = Engine(build_plan(load_rules([path]), load_mapping("custodes")))
    outcome = engine.process_lines(json.dumps(EVENT).encode())
    assert outcome.events == 1
    return bool(outcome.changes)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({"actor": "p0042"}, True),
        ({"actor|cased": "p0042"}, False),
        ({"actor": ["P1", "P0042"]}, True),
        ({"actor": "P00??"}, True),
        ({"actor": "P*2"}, True),
        ({"actor": "P0*3"}, False),
        ({"subject": "S2"}, True),
        ({"subject|all": ["S1", "S2"]}, True),
        ({"subject|all": ["S1", "S3"]}, False),
        ({"resource|contains": "CHECK"}, True),
        ({"resource|contains|all": ["hotel", "in"]}, True),
        ({"resource|contains|all": ["hotel", "out"]}, False),
        ({"resource|startswith": "hotel."}, True),
        ({"resource|endswith": ".checkin"}, True),
        ({"resource|endswith|cased": ".CheckIn"}, False),
        ({"actor|re": "^P0+42$"}, True),
        ({"actor|re": "^p0+42$"}, False),
        ({"actor|re|i": "^p0+42$"}, True),
        ({"client_ip|cidr": "10.0.0.0/8"}, True),
        ({"client_ip|cidr": ["192.168.0.0/16", "10.1.2.3/32"]}, True),
        ({"client_ip|cidr": "192.168.0.0/16"}, False),
        ({"count|gt": 11}, True),
        ({"count|gte": 12}, True),
        ({"count|lt": 12}, False),
        ({"count|lte": 12.5}, True),
        ({"count": 12}, True),
        ({"count": 13}, False),
        ({"purpose|exists": False}, True),
        ({"actor|exists": True}, True),
        ({"purpose": None}, True),
        ({"nothing": None}, True),
        ({"actor": None}, False),
        ({"flag": True}, True),
        ({"flag": False}, False),
        ({"request.user.name": "MÜLLER"}, True),
        ({"request.tables[1].id": "x"}, True),
        ({"request.tables[0].id": 7}, True),
        ({"request.tables[2].id|exists": True}, False),
        ({"note|contains": r"\*"}, True),
        ({"note|endswith": r"now\?"}, True),
        ({"note|contains": r"\*\?"}, False),
        ({"path|endswith": "\\out.csv"}, True),
        ({"actor|neq": "P0042"}, False),
        ({"actor": "P0042", "count|gt": 100}, False),
        ([{"actor": "nobody"}, {"count|gt": 10}], True),
    ],
)
def test_modifiers(tmp_path: Path, selection: Any, expected: bool) -> None:
    assert matches(tmp_path, {"selection": selection}) is expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("yes_a and yes_b", True),
        ("yes_a and no_a", False),
        ("yes_a and not no_a", True),
        ("not (yes_a or no_a)", False),
        ("no_a or yes_b", True),
        ("1 of yes_*", True),
        ("all of yes_*", True),
        ("all of them", False),
        ("1 of them", True),
        ("1 of no_*", False),
        ("not 1 of no_* and all of yes_*", True),
    ],
)
def test_conditions(tmp_path: Path, condition: str, expected: bool) -> None:
    detections = {
        "yes_a": {"actor": "P0042"},
        "yes_b": {"count": 12},
        "no_a": {"actor": "P0043"},
        "no_b": {"count": 13},
    }
    assert matches(tmp_path, detections, condition) is expected


def test_the_pack_is_valid_and_described() -> None:
    rules = load_rules(shipped_pack())
    assert {"Bulk lookups", "Slow copying", "Celebrity snooping"} < {rule.title for rule in rules}
    assert all(rule.description and rule.level in {"high", "medium", "low"} for rule in rules)


def test_a_range_condition_is_both_bounds(tmp_path: Path) -> None:
    path = tmp_path / "rule.yml"
    path.write_text(
        "title: a\nname: a\nlogsource: {product: x}\ndetection: {s: {actor: '*'}, condition: s}\n---\n"
        "title: b\ncorrelation: {type: event_count, rules: [a], timespan: 1h, condition: {gte: 2, lt: 4}}\n"
    )
    (rule,) = load_rules([path])
    assert rule.holds == {"gte": 2, "lt": 4}
    assert rule.threshold == 2


def test_generate_lets_a_referred_detection_fire_too(tmp_path: Path) -> None:
    path = tmp_path / "rule.yml"
    path.write_text(
        "title: a\nname: a\ngenerate: true\nlogsource: {product: x}\ndetection: {s: {actor: '*'}, condition: s}\n---\n"
        "title: b\ncorrelation: {type: event_count, rules: [a], timespan: 1h, condition: {gte: 2}}\n"
    )
    assert [rule.title for rule in load_rules([path])] == ["a", "b"]


def test_a_filter_applies_to_the_rules_it_names(tmp_path: Path) -> None:
    path = tmp_path / "rule.yml"
    path.write_text(
        "title: a\nname: a\nlogsource: {product: x}\ndetection: {s: {actor: '*'}, condition: s}\n---\n"
        "title: no robots\nlogsource: {product: x}\n"
        "filter: {rules: [a], selection: {actor|startswith: robot}, condition: not selection}\n"
    )
    engine = Engine(build_plan(load_rules([path]), load_mapping("custodes")))
    lines = b"".join(b'{"time":1767600000,"actor":"%s"}\n' % actor for actor in (b"robot-1", b"P1"))
    assert [change.group for change in engine.process_lines(lines).changes] == [["P1"]]


@given(st.integers(1, 400 * 86_400))
def test_default_resolution(seconds: int) -> None:
    timespan = timedelta(seconds=seconds)
    resolution = default_resolution(timespan)
    assert resolution >= timedelta(seconds=1)
    assert timespan % resolution == timedelta(0)
    assert timespan // resolution <= 600


@pytest.mark.parametrize(
    ("timespan", "resolution"), [("1s", 1), ("10m", 1), ("1h", 6), ("24h", 144), ("7d", 1008), ("30d", 4320)]
)
def test_common_default_resolutions(tmp_path: Path, timespan: str, resolution: int) -> None:
    path = tmp_path / "rule.yml"
    path.write_text(
        "title: a\nname: a\nlogsource: {product: x}\ndetection: {s: {actor: '*'}, condition: s}\n---\n"
        f"title: b\ncorrelation: {{type: event_count, rules: [a], timespan: {timespan}, condition: {{gte: 2}}}}\n"
    )
    (rule,) = load_rules([path])
    assert rule.resolution == timedelta(seconds=resolution)


def test_two_rules_cannot_share_a_title(tmp_path: Path) -> None:
    detection = "logsource: {product: x}\ndetection: {s: {actor: '*'}, condition: s}\n"
    path = tmp_path / "rule.yml"
    path.write_text(f"title: same\nname: a\n{detection}---\ntitle: same\nname: b\n{detection}")
    with pytest.raises(FaultsError, match="title 'same' is taken"):
        load_rules([path])


def test_a_rule_is_identified_by_id_then_name_then_title() -> None:
    rule: Rule = load_rules(shipped_pack())[0]
    assert rule.id == "2a3a4a58-7f0d-4c33-8f10-3a0fd6f4b102"
    assert (rule.threshold, rule.group_by, rule.distinct) == (120, ("actor",), "subject")


FOLLOWING = """\
title: Again
name: again
correlation: {type: event_count, rules: [busy], group-by: [actor], timespan: 1d, condition: {gte: 2}, generate: true}
---
title: Busy
name: busy
correlation: {type: event_count, rules: [looks], group-by: [actor], timespan: 1h, condition: {gte: 2}}
""" + detection("Looks", "{action: read}")


@pytest.mark.parametrize(
    ("keyed_by", "group_by", "apart"),
    [
        ({"actor"}, "[actor]", None),
        (set(), "[actor]", "Again"),
        ({"actor"}, "[app, actor]", None),
        ({"app"}, "[app, actor]", "Again"),
    ],
)
def test_correlations_of_correlations_are_shared_if_keyed_alike(
    keyed_by: set[str], group_by: str, apart: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "rules.yml"
    path.write_text(FOLLOWING.replace("[looks], group-by: [actor]", f"[looks], group-by: {group_by}"))
    rules = load_rules([path])
    faults = sharing_faults(rules, frozenset(keyed_by))
    wanted = (
        [] if apart is None else [f"{path}:1: 'Again' counts findings, but those of '{apart}' are spread over workers"]
    )
    assert [str(fault).partition(" (")[0] for fault in faults.values()] == wanted
    if not faults:
        assert Ruleset(rules, partial(build_plan, mapping=load_mapping("custodes")), frozenset(keyed_by)).by_share == []


def test_repartitioned_events_contain_their_keywords(tmp_path: Path) -> None:
    """The worker that reads the events computes derived fields, so its plan needs them."""
    path = tmp_path / "rule.yml"
    path.write_text(
        "title: Word\nname: word\nlogsource: {product: custodes}\n"
        "detection:\n    words: [secret]\n    condition: words\n"
        "---\ntitle: Words\ncorrelation:\n    type: event_count\n    rules: [word]\n    group-by: [subject]\n"
        "    timespan: 1h\n    condition: {gte: 2}\n"
    )
    rules = load_rules([path])
    ruleset = Ruleset(rules, partial(build_plan, mapping=load_mapping("custodes")), frozenset({"actor"}))
    reading, counting = Engine(ruleset.plan_where_read("0" * 32, 1)), Engine(ruleset.plan_by_share("0" * 32, 0, 1))
    events = [{"time": 1_700_000_000 + at, "actor": "a", "subject": "s", "note": "Secret"} for at in range(2)]
    batches = reading.process_lines("\n".join(map(json.dumps, events)).encode()).repartition_batches
    outcomes = [counting.process_repartition_batch(batch.events, batch.first) for batch in batches]
    changes = [change for outcome in outcomes for change in outcome.changes]
    assert [(change.kind, change.group, change.peak) for change in changes] == [("opened", ["s"], 2)]
