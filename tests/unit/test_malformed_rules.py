"""Each malformed rule file gives a fault with a line, never an exception."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from custodes.config import Fault, FaultsError
from custodes.rules import load_rules, shipped_pack
from faults import faults_of

EVERY_PART = """\
name: for our warehouse
priority: 10
vars: {services: [batch, svc-*]}
transformations:
- {type: field_name_mapping, mapping: {User: actor}, rule_conditions: [{type: logsource, product: custodes}]}
- {type: value_placeholders}
- {type: add_condition, conditions: {resource: person}}
---
title: Reads
id: 2a3a4a58-7f0d-4c33-8f10-3a0fd6f4b102
name: reads
status: test
date: 2026-01-01
tags: [attack.t1005]
references: [a page]
related: [{id: 2a3a4a58-7f0d-4c33-8f10-3a0fd6f4b103, type: similar}]
logsource: {product: custodes}
detection:
  s: {User|expand: '%services%', n|gte: 5, time|hour: 3, time|day|lt: 3, x|re: a, ip|cidr: 10.0.0.0/8}
  k: [foo, 5]
  m: [{a|contains|all: [x, y]}, {b|exists: true}]
  condition: s or k and 1 of m
level: high
---
title: Other
name: other
logsource: {product: x, category: y}
detection: {s: {user: x, a|fieldref: b, c|base64offset|contains: y, d: null}, condition: [s, not s]}
custodes: {tuning: as you like, runbook: docs/rules.md}
---
title: Not by services
logsource: {product: custodes}
filter: {rules: [reads], selection: {actor|startswith: svc-}, condition: not selection}
---
title: In order
correlation:
  type: temporal_ordered
  rules: [reads, other]
  group-by: [who]
  aliases: {who: {reads: actor, other: user}}
  timespan: 1h
  condition: {gte: 2}
---
title: Values
name: values
correlation: {type: value_count, rules: [reads], group-by: [actor], timespan: 1d, condition: {field: subject, gte: 3}}
custodes: {keep_open: 1h, resolution: 1h, baseline: {of: both, over: 28d}, new: {over: 90d, after: 28d}}
---
title: Findings
correlation: {type: event_count, rules: [values], group-by: [actor], timespan: 1d, condition: {gte: 3}, generate: true}
---
title: Expression
correlation: {type: temporal, group-by: [actor], timespan: 1d, condition: reads and not other}
---
title: Percentile
correlation: {type: value_percentile, rules: [other], timespan: 1d, condition: {field: n, gte: 3.5, percentile: 95}}
"""
texts = st.sampled_from(
    [
        "",
        " ",
        "s",
        "reads",
        "1h",
        "9" * 30 + "y",
        "*",
        "a|b",
        "a|hour|gte",
        "%x%",
        "any",
        "1 of *",
        "(",
        "not s",
        "|all",
    ]
)
numbers = st.sampled_from([0, -1, 5, 10**12, 10**400, 1.5, float("inf"), float("nan"), True, False])
keys = st.none() | texts | st.sampled_from(["s", "a|re", "gte", "x", "type", "n|lt", "n|fieldref", 5, 1.5, True])
junk = st.recursive(
    st.none() | numbers | texts | st.just(b"bytes"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=2),
    max_leaves=4,
)


odd_values = st.sampled_from(
    ["!!int x", "!!float x", "!!bool x", "!!binary x", "!x y", "&a [*a]", "[" * 600 + "]" * 600, "9" * 5000]
)


def documents(text: str) -> list[Any]:
    return [document for document in yaml.safe_load_all(text) if isinstance(document, dict)]


SHIPPED = [documents(path.read_text()) for path in shipped_pack()]


def places(data: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields the positions of all values within ``data``."""
    children = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in children:
        yield (*at, key)
        yield from places(value, (*at, key))


def change(data: st.DataObject, tree: Any) -> None:
    """Replaces, removes, renames or nests one value of a tree."""
    *way, last = data.draw(st.sampled_from(list(places(tree))))
    spot = tree
    for key in way:
        spot = spot[key]
    match data.draw(st.sampled_from(["replace", "remove", "rename", "nest in a list", "nest in a mapping"])):
        case "remove":
            del spot[last]
        case "rename" if isinstance(spot, dict):
            spot[data.draw(keys | st.sampled_from([f"{last}x", f"{last}|gte", f"{last}|contains"]))] = spot.pop(last)
        case "nest in a list":
            spot[last] = [spot[last]]
        case "nest in a mapping":
            spot[last] = {str(last): spot[last]}
        case _:
            spot[last] = data.draw(junk)


def faults_in(path: Path) -> Sequence[Fault]:
    """Returns the faults of a file; none if it is loaded."""
    try:
        load_rules([path])
    except FaultsError as error:
        return error.faults
    return []


def assert_rules_or_faults(path: Path) -> None:
    """Asserts that a file is loaded, or refused with a message and a place."""
    assert [fault for fault in faults_in(path) if not (fault.file and fault.line and fault.message)] == []


fuzzed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@given(st.data(), st.integers(1, 3))
@settings(fuzzed, max_examples=120)
def test_any_change_of_any_part_of_a_rule_file(tmp_path: Path, data: st.DataObject, changes: int) -> None:
    tree = documents(EVERY_PART)
    for _ in range(changes):
        change(data, tree)
    (tmp_path / "rules.yml").write_text(yaml.safe_dump_all(tree))
    assert_rules_or_faults(tmp_path / "rules.yml")


@given(st.data())
@settings(fuzzed, max_examples=60)
def test_any_change_of_a_shipped_rule(tmp_path: Path, data: st.DataObject) -> None:
    tree = json.loads(json.dumps(data.draw(st.sampled_from(SHIPPED))))
    change(data, tree)
    (tmp_path / "rules.yml").write_text(yaml.safe_dump_all(tree))
    assert_rules_or_faults(tmp_path / "rules.yml")


@given(st.data())
@settings(fuzzed, max_examples=60)
def test_any_damage_to_the_text_of_a_rule_file(tmp_path: Path, data: st.DataObject) -> None:
    lines = EVERY_PART.splitlines()
    index = data.draw(st.integers(0, len(lines) - 1))
    line = lines[index]
    whole = st.sampled_from(["", line * 2, f"{line}\n{line}", f"  {line}", "---", "? [a]\n: b"])
    damage = data.draw(whole | st.text(max_size=6).map(lambda text: line + text) | odd_values.map("x: {}".format))
    lines[index] = damage
    (tmp_path / "rules.yml").write_text("\n".join(lines), encoding="utf-8")
    assert_rules_or_faults(tmp_path / "rules.yml")


@given(junk)
@settings(fuzzed, max_examples=40)
def test_any_value_instead_of_a_rule(tmp_path: Path, value: Any) -> None:
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(value))
    assert_rules_or_faults(tmp_path / "rules.yml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [*a]", "1: an alias that contains itself"),
        ("? [a]\n: b", "1: a key must be plain text"),
        ("a: [", "not YAML"),
        ("- a", "1: a rule is a YAML mapping"),
        ("title: a\ntitle: b", "2: key 'title' is given twice"),
        ("title: a\nlevel: !!int high", "2: not a value of type 'int'"),
        ("title: a\nlevel: " + "9" * 5000, "2: not a value of type 'int'"),
        ("title: a\nx: \x01", "2: not YAML: control characters are not allowed"),
        ("title: a\nx: " + "[" * 600 + "]" * 600, "1: nested too deeply"),
    ],
)
def test_odd_yaml(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "rule.yml").write_text(text)
    with pytest.raises(FaultsError, match=message):
        load_rules([tmp_path / "rule.yml"])


def test_bytes_that_are_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "rule.yml").write_bytes(b"title: a\nname: \xff")
    assert faults_of(tmp_path / "rule.yml") == [f"{tmp_path / 'rule.yml'}:2: not UTF-8 at byte 15"]


def test_aliases_do_not_explode(tmp_path: Path) -> None:
    layers = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    for key in ("tags", "date", "x-own", "references"):
        rule = f"title: t\nlogsource: {{product: x}}\ndetection: {{s: {{a: b}}, condition: s}}\n{key}: *a11\n"
        (tmp_path / "rule.yml").write_text("a0: &a0 x\n" + layers + rule)
        with pytest.raises(FaultsError):
            load_rules([tmp_path / "rule.yml"])
