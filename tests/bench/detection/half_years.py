"""One half year with and without insiders: the findings of the rules, and the input of the other methods."""

from __future__ import annotations

import heapq
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from custodes._core import Engine
from custodes.config.mapping import load_mapping
from custodes.demo.half_year import HalfYear
from custodes.demo.half_year.insiders import Deed
from custodes.demo.half_year.writer import write_tables
from custodes.findings import Finding, FindingAccumulator
from custodes.rules import Rule, build_plan
from custodes.sources.lookup_tables import LookupTables, csv_files
from detection.features import Features, features_of


@dataclass
class Season:
    """A half year as processed by the rules and by the other methods."""

    seed: int
    actors: int
    weeks: float
    events: int
    deeds: list[Deed] = field(default_factory=list)
    clean: list[Finding] = field(default_factory=list)
    """Findings of the rules without insiders."""
    found: list[Finding] = field(default_factory=list)
    """Findings of the rules with insiders."""
    days: dict[tuple[str, int], Features] = field(default_factory=dict)
    """Features by actor and day, without insiders."""
    days_found: dict[tuple[str, int], Features] = field(default_factory=dict)
    """Features with insiders, for days that differ."""

    @property
    def actor_weeks(self) -> float:
        return self.actors * self.weeks

    def due_to_insiders(self) -> list[Finding]:
        """Findings that do not exist without insiders."""
        known: dict[tuple[str, str], list[Finding]] = defaultdict(list)
        for one in self.clean:
            known[one.rule_id, one.who].append(one)
        return [one for one in self.found if not any(one.joins(other) for other in known[one.rule_id, one.who])]


class Watch:
    """Applies the rules to one stream."""

    def __init__(self, rules: Sequence[Rule], tables: LookupTables) -> None:
        self._ledger = FindingAccumulator(rules)
        self._engine = Engine(build_plan(rules, load_mapping("custodes")))
        self._engine.use_tables(tables.in_force)

    def day(self, lines: bytes) -> None:
        outcome = self._engine.process_lines(lines)
        assert not outcome.rejects  # the simulation writes what the mapping reads
        self._ledger.apply(outcome.changes)
        self._ledger.apply(self._engine.updates())

    def findings(self) -> list[Finding]:
        self._ledger.apply(self._engine.finish().changes)
        return self._ledger.findings()


def season(seed: int, rules: Sequence[Rule], people: int) -> Season:
    """Simulates a half year and applies the rules to it."""
    half_year, tables = HalfYear(seed, people=people), LookupTables()
    with tempfile.TemporaryDirectory() as folder:
        tables.load(csv_files(write_tables(half_year, Path(folder))), load_mapping("custodes").table_uses())
    clean, full = Watch(rules, tables), Watch(rules, tables)
    told = Season(seed, people, 0, 0)
    for number, (work, deeds) in enumerate(half_year.days_apart()):
        clean.day(_lines(work.events))
        full.day(_lines(heapq.merge(work.events, deeds.events)))
        told.events += len(work.events) + len(deeds.events)
        told.weeks = (number + 1) / 7
        told.days.update(features_of(work.events, ()))
        if deeds.events:
            told.days_found.update(features_of(work.events, deeds.events))
    told.clean, told.found = clean.findings(), full.findings()
    told.deeds = [deed for deed in half_year.deeds if deed.times]
    return told


def _lines(events: Iterable[tuple[int, bytes]]) -> bytes:
    return b"".join(line for _, line in events)
