"""A rule, compiled: what people are told about it and what the engine is told to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from custodes.rules.baseline import Baseline
from custodes.rules.conditions import Condition, keywords_of
from custodes.rules.measure import Measure
from custodes.rules.novelty import Novelty

LEVELS = ("informational", "low", "medium", "high", "critical")
"""Sigma's levels, least severe first."""
POINTS = {"informational": 1, "low": 10, "medium": 30, "high": 60, "critical": 100}
"""What a finding of a level is worth where findings are added up."""


@dataclass(frozen=True)
class Branch:
    """The events of one condition, grouped by fields of their own."""

    when: Condition
    group_by: tuple[str, ...]
    """As many as the rule's ``group_by`` has names."""
    points: int = 0
    """What an opening is worth, where findings are counted."""


@dataclass(frozen=True)
class Rule:
    """One counting rule."""

    id: str
    """The Sigma id, else its name, else its title: stable as long as the file keeps it."""
    title: str
    level: str
    description: str
    group_by: tuple[str, ...]
    distinct: str | None
    """The field whose distinct values are counted; ``None`` counts events."""
    timespan: timedelta
    resolution: timedelta
    keep_open: timedelta
    holds: dict[str, float]
    """Sigma's operators and their bounds; all must hold."""
    when: dict[str, Any] = field(repr=False)
    """The condition in the engine's terms."""
    file: str
    line: int
    text: str = field(default="", repr=False)
    """The file as it was read."""
    parts: tuple[tuple[str, dict[str, Any]], ...] = field(default=(), repr=False)
    """Names and conditions of the rules of which is counted how many an event's group has met, each once; ``when`` is
    any of them. None where events, or a field's values, are counted."""

    branches: tuple[Branch, ...] = field(default=(), repr=False)
    """Of each condition that ``when`` is any of, how its events are grouped, where that is not the same for all; and
    wherever findings are counted."""

    together: tuple[str, ...] = ()
    """The fields whose values, taken together, are those of ``distinct``; none where it is a field itself."""

    measure: Measure | None = None
    """What is held against ``holds``; ``None``: the count."""

    silent: bool = False
    """Whether only rules that count its findings hear of them."""

    sieve: Novelty | None = None
    """Which of these events count, by what their group did on days before; ``None``: all do."""

    baseline: Baseline | None = None
    """What the threshold is raised to, by what is usual."""

    false_positives: tuple[str, ...] = field(default=(), repr=False)
    """What it finds beside what it is for."""
    references: tuple[str, ...] = field(default=(), repr=False)
    tuning: str = field(default="", repr=False)
    """How to fit it to a house."""
    runbook: str | None = None
    """The page, from the root of the documentation's repository, that says what to do about a finding."""

    @property
    def keywords(self) -> set[str]:
        """The names of the derived fields that the condition's keywords are."""
        return {name for condition in (self.when, *(part for _, part in self.parts)) for name in keywords_of(condition)}

    @property
    def follows(self) -> set[str]:
        """The ids of the rules whose findings it counts."""
        return {str(branch.when["opened"]) for branch in self.branches if "opened" in branch.when}

    def with_followed(self, others: Sequence[Rule]) -> list[Rule]:
        """The rule, and those of ``others`` whose findings it counts, directly or not."""
        wanted = [self]
        for one in wanted:
            wanted += [other for other in others if other.id in one.follows and other not in wanted]
        return wanted

    @property
    def grows(self) -> bool:
        """Whether more events can only bring it nearer to firing, so that it is judged with every event."""
        return set(self.holds) <= {"gte", "gt"} and (self.measure is None or self.measure.grows)

    @property
    def counts(self) -> str:
        """What is counted, as a person reads it."""
        if self.measure:
            of = f", of {', '.join(name for name, _ in self.parts)}" if self.parts else ""
            return f"{self.measure.said}{of}"
        if self.parts:
            return f"rules met, of {', '.join(name for name, _ in self.parts)}"
        counted = f"distinct {self.distinct}" if self.distinct else "events"
        return f"{counted}, of {self.sieve.said}" if self.sieve else counted

    @property
    def fires(self) -> str:
        """When it fires, as a person reads it."""
        bounds = " and ".join(f"{operator} {bound:,}" for operator, bound in self.holds.items())
        if self.silent:
            return f"{bounds}, for other rules"
        return f"{bounds}, if that is {self.baseline.said}" if self.baseline else bounds

    @property
    def threshold(self) -> float:
        """The bound shown to people: the one nearest to firing."""
        return next(self.holds[op] for op in ("gte", "gt", "eq", "lte", "lt", "neq") if op in self.holds)

    def as_plan(self) -> dict[str, Any]:
        """The rule as a part of the engine's plan."""

        def millis(span: timedelta) -> int:
            return span // timedelta(milliseconds=1)

        return {
            "id": self.id,
            "when": self.when,
            "group_by": list(self.group_by),
            "distinct": self.distinct,
            "parts": [condition for _, condition in self.parts],
            "branches": [vars(branch) for branch in self.branches],
            "measure": self.measure.as_plan() if self.measure else None,
            "timespan_ms": millis(self.timespan),
            "resolution_ms": millis(self.resolution),
            "keep_open_ms": millis(self.keep_open),
            "holds": self.holds,
            "silent": self.silent,
            "sieve": self.sieve.as_plan() if self.sieve else None,
            "baseline": self.baseline.as_plan() if self.baseline else None,
        }
