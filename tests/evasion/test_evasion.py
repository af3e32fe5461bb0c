"""Every disguise of a bulk look-up gives a finding of the shipped rules, of level medium or above, of the actor."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from disguises import ACTOR, BASE, DISGUISES, EVERY, LOOK_UPS, Disguise, Record, records, text_of

from custodes._core import Engine
from custodes.config.mapping import load_mapping
from custodes.findings import Finding, FindingAccumulator
from custodes.rules import Rule, build_plan, load_rules, shipped_pack

LIMIT = 65_536
"""Longest record here, so that a longer one is short enough for a test."""
AS_WRITTEN = Disguise("none", "none", lambda n, event: event)
MOST_EXCEPTIONS = 3


@pytest.fixture(scope="module")
def rules() -> Sequence[Rule]:
    return load_rules(shipped_pack())


def colleagues() -> list[Record]:
    """Look-ups of twelve colleagues, from a day before to two months after the insider's."""
    minutes = [*range(-1440, 0, 60), *range(0, 600), *range(600, 88_000, 60)]
    lines = []
    for minute in minutes:
        time = BASE + timedelta(minutes=minute)
        event = {"time": text_of(time), "actor": f"C{minute % 12}", "subject": f"K{minute % 7}", "action": "read"}
        lines.append(Record(time, orjson.dumps(event)))
    return lines


def findings(rules: Sequence[Rule], disguise: Disguise, folder: Path) -> list[Finding]:
    """Returns the findings of a run in which every record arrives at its time."""
    mapping = folder / "mapping.yml"
    names = ("time", "actor", "subject", "resource", "action", "app", "purpose")
    fields: dict[str, Any] = {name: name for name in names} | {"rows": ["rows", "count"]}
    mapping.write_text(yaml.safe_dump(fields | disguise.mapping))
    plan = build_plan(rules, load_mapping(str(mapping)), max_record_bytes=LIMIT)
    engine, found = Engine(plan), FindingAccumulator(rules)
    for record in sorted([*colleagues(), *records(disguise)], key=lambda record: record.arrival):
        outcome = engine.process_lines(record.line, now=int(record.arrival.timestamp() * 1e6))
        found.apply(outcome.changes)
    found.apply(engine.finish().changes)
    return found.findings()


def those_of_the_insider(found: Sequence[Finding]) -> list[Finding]:
    return [
        finding
        for finding in found
        if finding.level in ("medium", "high", "critical") and not finding.group.get("actor", "C").startswith("C")
    ]


def test_colleagues_have_no_findings_and_the_plain_look_up_has(rules: Sequence[Rule], tmp_path: Path) -> None:
    found = findings(rules, AS_WRITTEN, tmp_path)
    assert "Bulk lookups" in {finding.rule for finding in found}
    assert {finding.group["actor"] for finding in those_of_the_insider(found)} == {ACTOR}


@pytest.mark.parametrize("disguise", DISGUISES, ids=lambda disguise: f"{disguise.kind}: {disguise.name}"[:60])
def test_a_disguise_does_not_hide_the_insider(disguise: Disguise, rules: Sequence[Rule], tmp_path: Path) -> None:
    found = those_of_the_insider(findings(rules, disguise, tmp_path))
    assert bool(found) == (not disguise.names_nobody), disguise.name


def test_there_are_many_disguises_and_few_exceptions() -> None:
    assert len(DISGUISES) >= 80
    assert len({disguise.name for disguise in DISGUISES}) == len(DISGUISES)
    assert sum(bool(disguise.names_nobody) for disguise in DISGUISES) <= MOST_EXCEPTIONS
    assert timedelta(hours=1) > LOOK_UPS * EVERY
