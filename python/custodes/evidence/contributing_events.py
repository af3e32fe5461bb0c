"""The events behind a finding, those before it opened included, found again in the history.

Which events of the group's counted is not guessed: they are put to the engine, with the rule's own condition, mapping
and look-up tables. Where a rule counts findings, those are what is behind; and where they are such that nobody hears of
them but the rule, the events behind them.
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
from custodes.findings import Finding
from custodes.findings.store import FindingStore
from custodes.history import Access, History
from custodes.history.queries import RecordedEvent
from custodes.rules import Rule, Ruleset
from custodes.sources.replay import numbered

MOST_EVENTS = 10_000
"""So many events of a group are looked through for one finding."""


@dataclass(frozen=True)
class ContributingEvent:
    """An event that counted."""

    access: Access
    """What the history has of it; of several subjects, those of the first row."""
    subjects: Sequence[str]
    values: Sequence[str]
    """What it added where distinct values are counted."""
    record: bytes


@dataclass(frozen=True)
class Contribution:
    """What is behind a finding."""

    events: Sequence[ContributingEvent]
    """The earliest first."""
    findings: Sequence[Finding]
    """The findings that counted, where a rule counts findings; the earliest first."""
    since: int
    """From when on they are looked for: the start of the window in which the condition first held."""
    is_whole: bool
    """Whether the history has, and this shows, all of the stretch."""
    curve: Sequence[tuple[int, float]]
    """How the count went: time, and the count from then on. Empty for what is no count of events or values."""

    def within(self, covers: Callable[[str | None], bool]) -> Contribution:
        """The same without the events of resources that are not covered."""
        return replace(self, events=[event for event in self.events if covers(event.access.resource)])

    def people(self, kind: str) -> list[tuple[str, int]]:
        """Whose records, or, of ``actor``, who looked; and how often, the most often first."""
        if kind == "actor":
            return Counter(event.access.actor for event in self.events).most_common()
        return Counter(subject for event in self.events for subject in event.subjects).most_common()

    def resources(self) -> list[tuple[str, int]]:
        """What was looked into, and how often, the most often first."""
        return Counter(event.access.resource for event in self.events if event.access.resource).most_common()


class ContributingEvents:
    """Finds them, by the rules in force."""

    def __init__(self, history: History, ruleset: Ruleset, tables: Tables, store: FindingStore) -> None:
        self._history = history
        self.ruleset = ruleset
        """Exchanged when the rules are."""
        self.tables = tables
        """Those in force."""
        self._store = store

    def of(self, finding: Finding, *, refresh: bool = True) -> Contribution | None:
        """``None`` for a finding whose rule is not in force any more.

        Without ``refresh`` what the history has not written yet is left out. Raises the database's errors.
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
        """The rule in force; ``None`` where there is none."""
        return next((rule for rule in self.ruleset.rules if rule.id == rule_id), None)

    def _counting_events(self, rule: Rule, group: _GroupKey, since: int) -> Iterator[tuple[Rule, _GroupKey, int]]:
        """What looks for the events: rules that count such, with their groups and from when on.

        Those are the rule itself, as far as it counts events, and rules whose findings it alone hears of.
        """
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
        plan = self.ruleset.write([], handed_on=[rule], shares=1, among_workers={"history": False})
        engine = Engine(plan)
        engine.use_tables(self.tables)
        records = numbered(one.record for one in found)
        for _, _, parcel in engine.process_records(records).parcels:
            for at, fields in _unpacked(parcel):
                if _is_in(rule, group, fields):
                    values = () if rule.distinct is None else _texts(fields.get(rule.distinct))
                    yield ContributingEvent(found[at].access, _texts(fields.get("subject")), values, found[at].record)


_GroupKey = tuple[str | None, ...]
"""The values of a rule's group, in its order; ``None``: any."""


def _micros(span: timedelta) -> int:
    return span // timedelta(microseconds=1)


def _ways(rule: Rule) -> list[tuple[str, ...]]:
    """By which fields events are grouped."""
    return [branch.group_by for branch in rule.branches] or [rule.group_by]


def _told_by_name(rule: Rule, group: _GroupKey) -> dict[str, str]:
    """Those of the group's values that every event of it has under one name."""
    named = zip(zip(*_ways(rule), strict=True), group, strict=True)
    return {names[0]: value for names, value in named if value is not None and len(set(names)) == 1}


def _unpacked(parcel: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """The events of a parcel: of each its position, its length and its JSON."""
    at = 0
    while at < len(parcel):
        position, length = struct.unpack_from("<QI", parcel, at)
        at += 12
        yield position, json.loads(parcel[at : at + length], parse_float=str, parse_int=str)
        at += length


def _texts(value: Any) -> list[str]:
    """A field's scalars as the engine has them: text, and numbers as they are written."""
    each = value if isinstance(value, list) else [value]
    return [
        str(one).lower() if isinstance(one, bool) else str(one)
        for one in each
        if one is not None and not isinstance(one, dict)
    ]


def _is_in(rule: Rule, group: _GroupKey, fields: dict[str, Any]) -> bool:
    return any(
        all(value is None or value in _texts(fields.get(name)) for name, value in zip(way, group, strict=True))
        for way in _ways(rule)
    )


def _curve(rule: Rule, events: Sequence[ContributingEvent]) -> list[tuple[int, float]]:
    """How many there were, or how many values, in the timespan up to each event, and when that became less."""
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
