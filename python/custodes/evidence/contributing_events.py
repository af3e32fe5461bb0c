"""The events that contributed to a finding, including those before its opening, found in the history.

The engine decides which events of the group counted: it evaluates them with the rule's own condition, mapping and
look-up tables. For a rule that counts findings, the contributors are findings; for intermediate rules that only such a
rule counts, they are the events behind them.
"""

from __future__ import annotations

import json
import struct
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from custodes._core import Engine, Tables
from custodes.config.normal_forms import NormalForms
from custodes.findings import Finding
from custodes.findings.store import FindingStore
from custodes.history import Access, History
from custodes.history.queries import RecordedEvent
from custodes.rules import Rule, Ruleset
from custodes.sources.replay import numbered

MOST_EVENTS = 10_000
"""Largest number of events of a group that are read for one finding."""


@dataclass(frozen=True)
class ContributingEvent:
    """An event that counted."""

    access: Access
    """Its row in the history; for several subjects, the first row."""
    subjects: Sequence[str]
    values: Sequence[str]
    """The values it added to a distinct count, in normal form."""
    record: bytes


@dataclass(frozen=True)
class Contribution:
    """The contributors of a finding."""

    events: Sequence[ContributingEvent]
    """Events, earliest first."""
    findings: Sequence[Finding]
    """Contributing findings of a rule that counts findings, earliest first."""
    since: int
    """Start of the search: the start of the window in which the condition first held."""
    is_whole: bool
    """Whether the history covers the whole interval, and all of it is included."""
    curve: Sequence[tuple[int, float]]
    """Step curve of the count: time, and the count from then on. Empty for other measures."""

    def within(self, covers: Callable[[str | None], bool]) -> Contribution:
        """Returns the same without events of resources outside the scope."""
        return replace(self, events=[event for event in self.events if covers(event.access.resource)])

    def people(self, kind: str) -> list[tuple[str, int]]:
        """Returns subjects, or actors for ``actor``, with the number of events of each, most frequent first."""
        if kind == "actor":
            return Counter(event.access.actor for event in self.events).most_common()
        return Counter(subject for event in self.events for subject in event.subjects).most_common()

    def resources(self) -> list[tuple[str, int]]:
        """Returns resources with the number of events of each, most frequent first."""
        return Counter(event.access.resource for event in self.events if event.access.resource).most_common()


class ContributingEvents:
    """Finds contributors, by the rules in force."""

    def __init__(self, history: History, ruleset: Ruleset, tables: Tables, store: FindingStore) -> None:
        self._history = history
        self.ruleset = ruleset
        """Replaced when the rules change."""
        self.tables = tables
        """Look-up tables in force."""
        self._store = store

    def of(self, finding: Finding, *, refresh: bool = True) -> Contribution | None:
        """Returns ``None`` for a finding whose rule is no longer in force.

        Without ``refresh``, events that the history has not written yet are left out. Raises the database's errors.
        """
        rule = self.rule(finding.rule_id)
        if rule is None:
            return None
        since = finding.held_from - _micros(rule.timespan)
        until = finding.held_until
        found: dict[tuple[str, int], ContributingEvent] = {}
        is_whole = True
        for one, group, earliest in self._counting_events(rule, tuple(finding.group.values()), since):
            recorded = self._history.records(
                _told_by_name(one, group), since=earliest, until=until, limit=MOST_EVENTS, refresh=refresh
            )
            for event in self._counted(one, group, recorded):
                found[event.access.source, event.access.position] = event
            is_whole &= len(recorded) < MOST_EVENTS and self._history.reaches_back_to(earliest)
        events = sorted(
            found.values(), key=lambda event: (event.access.time, event.access.source, event.access.position)
        )
        return Contribution(events, self._followed(rule, finding, since), since, is_whole, _curve(rule, events))

    def rule(self, rule_id: str) -> Rule | None:
        """Returns the rule in force; ``None`` if there is none."""
        return next((rule for rule in self.ruleset.rules if rule.id == rule_id), None)

    def _counting_events(self, rule: Rule, group: _GroupKey, since: int) -> Iterator[tuple[Rule, _GroupKey, int]]:
        """Returns the rules that select events, each with its groups and start time: the rule itself if it counts
        events, and the intermediate rules that only it counts."""
        events = tuple(branch for branch in rule.branches if "opened" not in branch.when)
        if not rule.follows:
            yield rule, group, since
        elif events:
            conditions = {"any": [branch.when for branch in events]}
            yield replace(rule, when=conditions, branches=events, parts=(), measure=None), group, since
        for branch in rule.branches:
            followed = self.rule(str(branch.when.get("opened")))
            if followed is not None and followed.silent:
                theirs = dict(zip(branch.group_by, group, strict=True))
                known = tuple(theirs.get(name) for name in followed.group_by)
                yield from self._counting_events(followed, known, since - _micros(followed.timespan))

    def _followed(self, rule: Rule, finding: Finding, since: int) -> list[Finding]:
        found: dict[str, Finding] = {}
        for branch in rule.branches:
            if opened := branch.when.get("opened"):
                group = dict(zip(branch.group_by, finding.group.values(), strict=True))
                for one in self._store.since(since, group, rule_id=str(opened)):
                    if one.opened_at <= finding.held_until:
                        found[one.id] = one
        return sorted(found.values(), key=lambda one: (one.opened_at, one.id))

    def _counted(self, rule: Rule, group: _GroupKey, found: Sequence[RecordedEvent]) -> Iterator[ContributingEvent]:
        forms = self.ruleset.forms
        plan = self.ruleset.write([], handed_on=[rule], shares=1, among_workers={"history": False})
        engine = Engine(plan)
        engine.use_tables(self.tables)
        records = numbered(one.record for one in found)
        for batch in engine.process_records(records).repartition_batches:
            for at, fields in _unpacked(batch.events):
                if _is_in(rule, group, fields, forms):
                    subjects, values = _texts(fields.get("subject")), list[str]()
                    if (counted := rule.distinct) is not None:
                        values = [forms.normal(counted, text) for text in _texts(fields.get(counted))]
                    yield ContributingEvent(found[at].access, subjects, values, found[at].record)


_GroupKey = tuple[str | None, ...]
"""Returns the values of a rule's group, in order; ``None`` matches any value."""


def _micros(span: timedelta) -> int:
    return span // timedelta(microseconds=1)


def _ways(rule: Rule) -> list[tuple[str, ...]]:
    """Returns the fields by which events are grouped."""
    return [branch.group_by for branch in rule.branches] or [rule.group_by]


def _told_by_name(rule: Rule, group: _GroupKey) -> dict[str, str]:
    """Returns the values of the group that every event has under a single name."""
    named = zip(zip(*_ways(rule), strict=True), group, strict=True)
    return {names[0]: value for names, value in named if value is not None and len(set(names)) == 1}


def _unpacked(batch: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields position, length and JSON of each event in a batch."""
    at = 0
    while at < len(batch):
        position, length = struct.unpack_from("<QI", batch, at)
        at += 12
        yield position, json.loads(batch[at : at + length], parse_float=str, parse_int=str)
        at += length


def _texts(value: Any) -> list[str]:
    """Returns a field's scalars as the engine sees them: texts, and numbers as written."""
    each = value if isinstance(value, list) else [value]
    return [
        str(one).lower() if isinstance(one, bool) else str(one)
        for one in each
        if one is not None and not isinstance(one, dict)
    ]


def _is_in(rule: Rule, group: _GroupKey, fields: dict[str, Any], forms: NormalForms) -> bool:
    ways = _ways(rule)
    # Alternatives that group by different fields are compared in the form of the first that has one.
    like = [forms.form([name, *alike]) or name for name, *alike in zip(rule.group_by, *ways, strict=True)]

    def has(name: str, like: str, value: str | None) -> bool:
        texts = _texts(fields.get(name)) or ([""] if name == "action" else [])
        return value is None or forms.normal(like, value) in {forms.normal(like, text) for text in texts}

    return any(all(map(has, way, like, group)) for way in ways)


def _curve(rule: Rule, events: Sequence[ContributingEvent]) -> list[tuple[int, float]]:
    """Step curve of the sliding count: (time, count) at every rise and fall."""
    if rule.measure is not None or rule.parts or rule.together or rule.follows:
        return []
    span = _micros(rule.timespan)
    curve: list[tuple[int, float]] = []
    held: Counter[str] = Counter()
    leaving: deque[tuple[int, Sequence[str]]] = deque()

    def leave(until: int) -> None:
        while leaving and leaving[0][0] <= until:
            at, values = leaving.popleft()
            held.subtract(values)
            for value in values:
                if not held[value]:
                    del held[value]
            curve.append((at, len(held)))

    for number, event in enumerate(events):
        leave(event.access.time)
        values = [str(number)] if rule.distinct is None else event.values
        held.update(values)
        leaving.append((event.access.time + span, values))
        curve.append((event.access.time, len(held)))
    return curve
