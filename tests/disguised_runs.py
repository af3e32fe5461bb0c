"""Runs of the engine with the shipped rules on a disguised bulk look-up among the look-ups of colleagues."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import yaml

from custodes._core import Engine
from custodes.config.mapping import load_mapping
from custodes.findings import Finding, FindingAccumulator
from custodes.rules import Rule, build_plan
from disguises import BASE, Disguise, Record, records, text_of

LIMIT = 65_536
"""Longest record here, so that a longer one is short enough for a test."""


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


def insiders_findings(rules: Sequence[Rule], disguise: Disguise, folder: Path) -> list[Finding]:
    """Returns the findings of level medium or above that name the insider."""
    found = findings(rules, disguise, folder)
    return [
        finding
        for finding in found
        if finding.level in ("medium", "high", "critical") and not finding.group.get("actor", "C").startswith("C")
    ]
