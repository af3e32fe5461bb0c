"""Every construct of Sigma's specification works as specified, or gives an error with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from custodes._core import Engine
from custodes.config.mapping import load_mapping
from custodes.findings import Finding, FindingAccumulator
from custodes.rules import build_plan, load_rules
from faults import faults_of
from rule_texts import detection

CONSTRUCTS: dict[str, list[dict[str, Any]]] = yaml.safe_load(
    (Path(__file__).parents[1] / "sigma" / "constructs.yml").read_text()
)
START = 1_767_600_000
OTHERS = (
    detection("Looks", "{action: read}")
    + detection("Exports", "{action: export}")
    + detection("Wipes", "{action: wipe}")
    + """\
---
title: Other
name: other
correlation: {type: event_count, rules: [looks], group-by: [actor], timespan: 5s, condition: {gte: 2}}
---
title: Another
name: another
correlation: {type: event_count, rules: [other], group-by: [actor], timespan: 5s, condition: {gte: 1}}
"""
)


REFERRED = ("Other", "Looks")
"""Rules that most of the correlations refer to."""


def every(kind: str) -> list[Any]:
    return [
        pytest.param(one, id=f"{section}: {one['construct']}")
        for section, constructs in CONSTRUCTS.items()
        for one in constructs
        if kind in one
    ]


def written(one: dict[str, Any], folder: Path) -> Path:
    """Returns the construct as a rule file; its fourth line contains it."""
    path = folder / "rules.yml"
    if "pipeline" in one:
        (folder / "pipeline.yml").write_text(json.dumps(one["pipeline"]))
    if "correlation" in one:
        correlation = json.dumps(one["correlation"])
        path.write_text(f"title: Under test\nname: under_test\nstatus: test\ncorrelation: {correlation}\n{OTHERS}")
    else:
        detection = json.dumps(one["detection"])
        logsource = "logsource: {product: custodes}"
        path.write_text(f"title: Under test\nname: under_test\n{logsource}\ndetection: {detection}\n")
    return path


def found(path: Path, events: list[dict[str, Any]]) -> list[Finding]:
    rules = load_rules([path.parent])
    engine, ledger = Engine(build_plan(rules, load_mapping("custodes"))), FindingAccumulator(rules)
    outcome = engine.process_lines(b"".join(json.dumps(event).encode() + b"\n" for event in events))
    assert outcome.rejects == []
    ledger.apply(outcome.changes)
    ledger.apply(engine.finish().changes)
    return ledger.findings()


@pytest.mark.parametrize("one", every("matches"))
def test_a_detection_matches_the_expected_events(one: dict[str, Any], tmp_path: Path) -> None:
    expected = {f"+{n}": event for n, event in enumerate(one["matches"])}
    others = {f"-{n}": event for n, event in enumerate(one["misses"])}
    events = [{"time": START, "actor": who, **event} for who, event in (expected | others).items()]
    assert {finding.shown["actor"] for finding in found(written(one, tmp_path), events)} == set(expected)


@pytest.mark.parametrize("one", every("findings"))
def test_a_correlation_gives_the_expected_findings(one: dict[str, Any], tmp_path: Path) -> None:
    events = [{"actor": "A", "action": "read", **event, "time": START + at} for at, event in one["events"]]
    all_told = found(written(one, tmp_path), events)
    told = [[finding.shown.get("actor", ""), finding.peak] for finding in all_told if finding.rule == "Under test"]
    assert told == one["findings"]
    beside = sorted(finding.rule for finding in all_told if finding.rule in REFERRED)
    assert beside == one.get("beside", beside)


@pytest.mark.parametrize("one", every("error"))
def test_unsupported_constructs_are_errors_with_their_line(one: dict[str, Any], tmp_path: Path) -> None:
    path = written(one, tmp_path)
    assert f"{path}:{one['error']}" in faults_of(path.parent)


@pytest.mark.parametrize("one", every("error_in_pipeline"))
def test_a_pipeline_that_cannot_be_applied_is_an_error_with_its_line(one: dict[str, Any], tmp_path: Path) -> None:
    path = written(one, tmp_path).parent / "pipeline.yml"
    assert f"{path}:{one['error_in_pipeline']}" in faults_of(path.parent)


def test_every_construct_has_a_test() -> None:
    kinds = {"matches", "findings", "error", "error_in_pipeline"}
    assert all(kinds & set(one) for constructs in CONSTRUCTS.values() for one in constructs)
