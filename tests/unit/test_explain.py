"""Explanations agree with the engine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custodes._core import Engine
from custodes.authoring.explain import explain
from custodes.config.mapping import load_mapping
from custodes.rules import Rule, build_plan, load_rules
from rule_texts import detection

MAPPING = load_mapping("custodes")
RULE = """\
title: At night, from outside, in bulk
name: outside
correlation:
  type: value_count
  rules: [looks]
  group-by: [actor, app]
  timespan: 1h
  condition: {field: subject, gte: 3}
---
title: Looks
name: looks
logsource: {product: custodes}
detection:
  work:
    action|startswith: re
    deep.hour|lt: 6
    client_ip|cidr: 10.0.0.0/8
  odd:
    - resource|re: ^person\\.
    - resource|exists: false
  known:
    purpose: null
    urgent: true
    level: 3
  cased:
    app|cased: Desk?
  condition: (work and odd) or (known and not cased)
"""


@pytest.fixture(scope="module")
def rule(tmp_path_factory: pytest.TempPathFactory) -> Rule:
    path = tmp_path_factory.mktemp("rules") / "rules.yml"
    path.write_text(RULE)
    return load_rules([path])[0]


def line(**fields: Any) -> bytes:
    return json.dumps({"time": 1_767_600_000, "actor": "P1", **fields}).encode()


def test_every_part_of_a_condition_is_explained_with_the_events_value(rule: Rule) -> None:
    event = line(
        action="Read", deep={"hour": 7}, client_ip="10.1.2.3", resource="person.x", app="Desk1", subject=["a", 2]
    )
    told = explain(rule, MAPPING, event)
    assert [("  " * part.depth + part.text, part.holds, part.values) for part in told.parts] == [
        ("any of", False, None),
        ("  all of", False, None),
        ("    all of", False, None),
        ("      action is re*", True, ["read"]),
        ("      deep.hour < 6", False, ["7"]),
        ("      client_ip is an address in 10.0.0.0/8", True, ["10.1.2.3"]),
        ("    any of", True, None),
        ("      resource matches /^person\\./", True, ["person.x"]),
        ("      resource does not exist", False, ["person.x"]),
        ("  all of", False, None),
        ("    all of", False, None),
        ("      purpose is absent or null", True, []),
        ("      urgent is true", False, []),
        ("      level = 3", False, []),
        ("    not", False, None),
        ("      app is Desk? (case matters)", True, ["Desk1"]),
    ]
    assert (told.matches, told.counts, told.rejected) == (False, False, None)
    assert told.group == {"actor": ["P1"], "app": ["Desk1"]}
    assert told.counted == ["2", "a"]


def test_a_matching_event_may_count_in_no_group(rule: Rule) -> None:
    known = {"urgent": True, "level": 3}
    told = explain(rule, MAPPING, line(**known, subject="s"))
    assert (told.matches, told.counts, told.group["app"]) == (True, False, [])
    told = explain(rule, MAPPING, line(**known, app="x"))
    assert (told.matches, told.counts, told.counted) == (True, False, [])
    told = explain(rule, MAPPING, b'{"time": 1767600000}')
    assert (told.counts, told.rejected) == (False, "missing_actor: the event has no actor")


values = (
    st.none()
    | st.booleans()
    | st.integers(0, 9)
    | st.sampled_from(["read", "Desk1", "desk2", "person.a", "10.9.9.9", "x"])
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            name: values | st.lists(values, max_size=3)
            for name in ("action", "client_ip", "resource", "purpose", "urgent", "level", "app", "subject")
        },
    ),
    st.none() | st.integers(0, 9),
)
def test_an_event_counts_when_the_engine_counts_it(rule: Rule, fields: dict[str, Any], hour: int | None) -> None:
    event = line(**fields, **({} if hour is None else {"deep": {"hour": hour}}))
    at_once = replace(rule, holds={"gte": 1})
    outcome = Engine(build_plan([at_once], MAPPING)).process_lines(event)
    told = explain(rule, MAPPING, event)
    assert told.counts == bool(outcome.changes)
    assert (told.rejected is None) == (not outcome.rejects)


FOLLOWING = (
    """\
title: Busy
name: busy
correlation: {type: event_count, rules: [looks], group-by: [actor], timespan: 1h, condition: {gte: 2}}
---
title: Granted and busy
name: under_test
correlation:
  type: temporal
  rules: [busy, grants]
  group-by: [who]
  timespan: 1h
  aliases: {who: {busy: actor, grants: grantee}}
"""
    + detection("Looks", "{action: read}")
    + detection("Grants", "{action: grant}")
)


@pytest.mark.parametrize(
    ("event", "counts", "group", "counted"),
    [
        ({"action": "grant", "grantee": "P7"}, True, ["P7"], ["Grants"]),
        ({"action": "grant"}, False, [], ["Grants"]),
        ({"action": "read", "grantee": "P7"}, False, ["P7"], []),
    ],
)
def test_openings_and_aliased_fields_are_distinguished_from_events(
    event: dict[str, Any], counts: bool, group: list[str], counted: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "rules.yml"
    path.write_text(FOLLOWING)
    under_test = next(rule for rule in load_rules([path]) if rule.title == "Granted and busy")
    told = explain(under_test, MAPPING, line(**event))
    assert (told.counts, told.group, told.counted) == (counts, {"who": group}, counted)
    assert [(part.text, part.holds) for part in told.parts][:2] == [
        ("any of", bool(counted)),
        ("a finding of the rule busy opens, which is never an event", False),
    ]


def test_measures_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "rules.yml"
    measured = "type: value_sum, rules: [looks], group-by: [actor], timespan: 1h, condition: {field: count, gte: 9.5}"
    path.write_text(
        FOLLOWING.replace(
            "type: event_count, rules: [looks], group-by: [actor], timespan: 1h, condition: {gte: 2}", measured, 1
        )
    )
    under_test = next(rule for rule in load_rules([path]) if rule.title == "Busy")
    told = explain(under_test, MAPPING, line(action="read", count=4.5))
    assert (told.counts, told.counted, under_test.counts, under_test.fires) == (
        True,
        ["4.5"],
        "sum of count",
        "gte 9.5, for other rules",
    )
