"""Random streams and rules for property tests, in the oracle's and the engine's terms."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

import oracle
from custodes.findings.store import FindingStore
from custodes.rules import Rule

START = 1_700_000_000_000_000
LATENESS_S = 10


@dataclass(frozen=True)
class StreamRecord:
    """Returns a record of a stream in the engine's format."""

    offset: int
    value: bytes


times = st.integers(0, 90_000_000) | st.integers(0, 90).map(lambda s: s * 1_000_000)
subjects = st.none() | st.sampled_from(["s1", "s2", "s3", "s4"]) | st.integers(1, 3)
events = st.fixed_dictionaries(
    {
        "time": times.map(lambda t: START + t),
        "actor": st.sampled_from(["a", "b"]) | st.just(7),
        "subject": subjects | st.lists(st.sampled_from(["s1", "s2", "s3", "s4"]), max_size=4),
        "resource": st.sampled_from(["person", "hotel"]),
    }
)
conditions = st.integers(1, 6).map(lambda n: ("gte", n)) | st.tuples(
    st.sampled_from(["lt", "lte", "eq", "neq"]), st.integers(1, 4)
)
rules = st.fixed_dictionaries(
    {
        "group_by": st.sampled_from([["actor"], ["subject"], ["actor", "resource"], ["subject", "actor"], []]),
        "distinct": st.sampled_from([None, None, "subject", "subject", "actor"]),
        "panes": st.integers(1, 30),
        "resolution": st.sampled_from([1, 1, 2, 7]),
        "keep_panes": st.none() | st.integers(0, 40),
        "holds": conditions,
        "resource": st.sampled_from([None, "person"]),
    }
)


def oracle_rule(rule: dict[str, Any]) -> oracle.OracleRule:
    op, bound = rule["holds"]
    resolution = rule["resolution"]
    keep = rule["keep_panes"]
    wanted = rule["resource"]
    return oracle.OracleRule(
        group_by=rule["group_by"],
        timespan=rule["panes"] * resolution,
        distinct=rule["distinct"],
        resolution=resolution,
        keep_open=None if keep is None else keep * resolution,
        where=lambda event: wanted is None or event["resource"] == wanted,
        **(oracle.gte(bound) if op == "gte" else oracle.judged(op, bound)),
    )


def plan_rule(rule: dict[str, Any], name: str) -> dict[str, Any]:
    op, bound = rule["holds"]
    span_ms = rule["panes"] * rule["resolution"] * 1000
    keep = rule["keep_panes"]
    when: dict[str, Any] = {"all": []}
    if rule.get("follows"):
        when = {"opened": rule["follows"]}
    elif rule["resource"]:
        when = {"field": {"name": "resource", "test": {"text": {"parts": [{"literal": rule["resource"]}]}}}}
    return {
        "id": name,
        "when": when,
        "group_by": rule["group_by"],
        "branches": [{"when": when, "group_by": rule["group_by"]}] if rule.get("follows") else [],
        "distinct": rule["distinct"],
        "timespan_ms": span_ms,
        "resolution_ms": rule["resolution"] * 1000,
        "keep_open_ms": span_ms if keep is None else keep * rule["resolution"] * 1000,
        "holds": {op: bound},
    }


def plan_for(*rules: dict[str, Any]) -> str:
    plan = {
        "mapping": {name: [name] for name in ("time", "actor", "subject", "resource")},
        "allowed_lateness_ms": LATENESS_S * 1000,
        "rules": [plan_rule(rule, f"r{at}") for at, rule in enumerate(rules)],
    }
    return json.dumps(plan)


def shuffled(stream: list[dict[str, Any]], delays: list[int]) -> list[dict[str, Any]]:
    """Returns the stream in an order within the allowed lateness: no event follows one that is newer by more than
    the lateness."""
    arrival = [event["time"] + delay for event, delay in zip(stream, delays, strict=True)]
    return [stream[at] for at in sorted(range(len(stream)), key=lambda at: arrival[at])]


def described(rule: dict[str, Any], name: str) -> Rule:
    """Returns the rule as the monitor uses it."""
    planned = plan_rule(rule, name)
    spans: dict[str, Any] = {
        name: timedelta(milliseconds=planned[f"{name}_ms"]) for name in ("timespan", "resolution", "keep_open")
    }
    shown: dict[str, Any] = {"title": name, "level": "high", "description": "", "file": "test", "line": 1}
    same = {key: planned[key] for key in ("id", "when", "distinct", "holds")}
    return Rule(group_by=tuple(planned["group_by"]), **same, **spans, **shown)


def stored(store: FindingStore, rule: Rule) -> list[oracle.OracleFinding]:
    """Returns the findings of a rule in a store, in the oracle's terms."""
    width = rule.resolution // timedelta(microseconds=1)
    return sorted(
        oracle.OracleFinding(
            tuple(finding.shown[name] for name in rule.group_by),
            finding.held_from // width,
            finding.opened_at,
            finding.closed_at or 0,
            finding.peak,
            finding.count,
        )
        for finding in store.page(10_000, rule_id=rule.id).findings
    )
