"""Explanations: why an event counts for a rule, with every part of the condition evaluated by the engine itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from custodes._core import Engine, Tables
from custodes.authoring.probe import probe
from custodes.config.mapping import Mapping
from custodes.findings import FindingAccumulator
from custodes.rules import Rule, build_plan
from custodes.rules.conditions import TIME_PART

_COMPARED = {"lt": "<", "lte": "≤", "gt": ">", "gte": "≥", "number": "="}


@dataclass(frozen=True)
class ConditionPart:
    """A part of a condition, and its result."""

    depth: int
    """Nesting depth."""
    text: str
    """The test."""
    holds: bool
    values: Sequence[str] | None
    """Value of the tested field in the event; ``None`` if the part tests no field itself."""


@dataclass(frozen=True)
class Explanation:
    """The evaluation of one event by a rule."""

    rejected: str | None
    """Reason for which the record is not an event."""
    time: int | None
    """Time of the event, in microseconds since the epoch."""
    matches: bool
    """Whether the condition holds."""
    parts: Sequence[ConditionPart]
    """Parts of the condition, outermost first."""
    group: dict[str, Sequence[str]]
    """Values of the group-by fields; an event without a value in one of them is in no group."""
    counted: Sequence[str] | None
    """Values it adds to a distinct count; ``None`` if events are counted."""

    @property
    def counts(self) -> bool:
        """Returns whether the event changes a count."""
        return self.matches and all(self.group.values()) and self.counted != []

    def as_dict(self) -> dict[str, object]:
        return {
            "counts": self.counts,
            "rejected": self.rejected,
            "matches": self.matches,
            "group": self.group,
            "counted": self.counted,
            "parts": [vars(part) for part in self.parts],
        }


def explain(rule: Rule, mapping: Mapping, event: bytes, tables: Tables | None = None) -> Explanation:
    """Evaluates an event, a JSON object as the source has it."""
    nodes = list(_nodes(rule.when, 0))
    sources = [branch.group_by for branch in rule.branches if "opened" not in branch.when] or [rule.group_by]
    counted_field = rule.measure.field if rule.measure else rule.distinct
    fields = {str(node["field"]["name"]) for _, node in nodes if "field" in node} | {*itertools.chain(*sources)}
    if counted_field is not None:
        fields.add(counted_field)
    probes = [probe(f"part {at}", _of_events(node)) for at, (_, node) in enumerate(nodes)]
    probes += [probe(f"field {field}", group_by=(field,)) for field in sorted(fields)]
    engine, ledger = Engine(build_plan(probes, mapping)), FindingAccumulator(probes)
    if tables is not None:
        engine.use_tables(tables)
    outcome = engine.process_lines(event)
    matched = [figures.matched > 0 for figures in engine.stats().rules]
    ledger.apply(outcome.changes)
    values: dict[str, list[str]] = {field: [] for field in fields}
    for finding in ledger.findings():
        for field, value in finding.shown.items():
            values[field].append(value)
    rejected = next((f"{reject.reason}: {reject.detail}" for reject in outcome.rejects), None)
    parts = [
        ConditionPart(depth, _said(node), holds, sorted(values[node["field"]["name"]]) if "field" in node else None)
        for (depth, node), holds in zip(nodes, matched[: len(nodes)], strict=True)
    ]
    outermost = [part for part in parts if part.depth == 1] if len(rule.branches or rule.parts) > 1 else parts[:1]
    counted = None if counted_field is None else sorted(values[counted_field])
    if rule.parts:
        counted = [name for (name, _), part in zip(rule.parts, outermost, strict=True) if part.holds]
    if rule.branches:
        met = [branch.group_by for branch, part in zip(rule.branches, outermost, strict=True) if part.holds]
        sources = met or sources
    group: dict[str, Sequence[str]] = {
        name: sorted({value for fields in sources for value in values[fields[at]]})
        for at, name in enumerate(rule.group_by)
    }
    return Explanation(rejected, outcome.clock, parts[0].holds, parts, group, counted)


def _of_events(node: Any) -> Any:
    """Returns the part of a condition without findings of other rules, which no event matches."""
    if "opened" in node:
        return {"any": []}
    if "any" in node:
        return {"any": [_of_events(part) for part in node["any"]]}
    return node


def _nodes(when: dict[str, Any], depth: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the parts of a condition, each before its own parts."""
    yield depth, when
    within = [when["not"]] if "not" in when else when.get("all", when.get("any", []))
    for part in within:
        yield from _nodes(part, depth + 1)


def _said(node: dict[str, Any]) -> str:
    if "all" in node:
        return "all of" if node["all"] else "every event"
    if "any" in node:
        return "any of"
    if "not" in node:
        return "not"
    if "opened" in node:
        return f"a finding of the rule {node['opened']} opens, which is never an event"
    return _said_of(node["field"]["name"].removeprefix(TIME_PART), node["field"]["test"])


def _said_of(name: str, test: Any) -> str:
    if test == "null":
        return f"{name} is absent or null"
    ((kind, wanted),) = test.items()
    match kind:
        case "text":
            case = " (case matters)" if wanted.get("cased") else ""
            return f"{name} is {''.join(map(_pattern, wanted['parts']))}{case}"
        case "regex":
            return f"{name} matches /{wanted['pattern']}/"
        case "same":
            where = {"whole": "is", "start": "starts with", "end": "ends with", "anywhere": "contains"}[wanted["place"]]
            return f"{name} {where} the value of {wanted['other']}"
        case "part":
            part, number = wanted
            return f"{part} of {name} is {number}"
        case "cidr":
            return f"{name} is an address in {wanted}"
        case "exists":
            return f"{name} exists" if wanted else f"{name} does not exist"
        case "bool":
            return f"{name} is {'true' if wanted else 'false'}"
        case _:
            return f"{name} {_COMPARED[kind]} {_number(wanted)}"


def _pattern(part: Any) -> str:
    return {"any_run": "*", "any_one": "?"}[part] if isinstance(part, str) else str(part["literal"])


def _number(wanted: float | str) -> str:
    """Returns a number with all its digits; the plan has a text for those that a float may not represent."""
    return wanted if isinstance(wanted, str) else f"{wanted:.0f}" if wanted.is_integer() else repr(wanted)
