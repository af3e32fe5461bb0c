"""A compiled rule: its texts for people, and its part of the engine's plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from custodes.rules.baseline import Baseline
from custodes.rules.conditions import Condition, derivations_of
from custodes.rules.measure import Measure
from custodes.rules.novelty import Novelty

LEVELS = ("informational", "low", "medium", "high", "critical")
"""Sigma's levels, least severe first."""
POINTS = {"informational": 1, "low": 10, "medium": 30, "high": 60, "critical": 100}
"""Points of a finding by level, for rules that add up findings."""
FINDING_FIELDS = ("peak", "points")
"""Numeric fields of every finding."""


@dataclass(frozen=True)
class Branch:
    """The events of one condition, with their own group-by fields."""

    when: Condition
    group_by: tuple[str, ...]
    """One field for each name in the rule's ``group_by``."""
    points: int = 0
    """Points of a finding, if findings are counted."""


@dataclass(frozen=True)
class Rule:
    """One counting rule."""

    id: str
    """The Sigma id, else the name, else the title; stable as long as the file keeps it."""
    title: str
    level: str
    description: str
    group_by: tuple[str, ...]
    distinct: str | None
    """Field whose distinct values are counted; ``None`` counts events."""
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
    """Text of the file."""
    parts: tuple[tuple[str, dict[str, Any]], ...] = field(default=(), repr=False)
    """Names and conditions of the rules of a temporal correlation, which counts how many of them a group has met;
    ``when`` is the union of the conditions. Empty for rules that count events or values."""

    branches: tuple[Branch, ...] = field(default=(), repr=False)
    """Group-by fields for each condition in ``when``, if they differ between conditions or if findings are counted."""

    together: tuple[str, ...] = ()
    """Fields whose combined values are the values of ``distinct``; empty if ``distinct`` is a single field."""

    measure: Measure | None = None
    """Measure that is compared with ``holds``; ``None`` for the count."""

    silent: bool = False
    """Whether the rule's findings are visible only to rules that count them."""

    sieve: Novelty | None = None
    """Filter for events by the history of their group; ``None`` counts all events."""

    baseline: Baseline | None = None
    """Baseline that raises the threshold."""

    false_positives: tuple[str, ...] = field(default=(), repr=False)
    """Harmless activity that the rule also finds."""
    references: tuple[str, ...] = field(default=(), repr=False)
    tuning: str = field(default="", repr=False)
    """How to adapt the rule to an organisation."""
    runbook: str | None = None
    """Path of the page that describes the response to a finding, from the root of the repository."""

    @property
    def derived(self) -> dict[str, Condition]:
        """Derived fields that only the rule's conditions define, in the engine's terms."""
        conditions = (self.when, *(part for _, part in self.parts))
        return {name: derivation for condition in conditions for name, derivation in derivations_of(condition)}

    @property
    def follows(self) -> set[str]:
        """Ids of the rules whose findings this rule counts."""
        return {str(branch.when["opened"]) for branch in self.branches if "opened" in branch.when}

    def with_followed(self, others: Sequence[Rule]) -> list[Rule]:
        """Returns the rule, and those of ``others`` whose findings it counts directly or indirectly."""
        wanted = [self]
        for one in wanted:
            wanted += [other for other in others if other.id in one.follows and other not in wanted]
        return wanted

    @property
    def grows(self) -> bool:
        """Whether further events can only bring the rule closer to its threshold, so that it is evaluated with every
        event."""
        return set(self.holds) <= {"gte", "gt"} and (self.measure is None or self.measure.grows)

    @property
    def counts(self) -> str:
        """Description of the counted items."""
        if self.measure:
            of = f", of {', '.join(name for name, _ in self.parts)}" if self.parts else ""
            return f"{self.measure.summary}{of}"
        if self.parts:
            return f"rules met, of {', '.join(name for name, _ in self.parts)}"
        counted = f"distinct {self.distinct}" if self.distinct else "events"
        return f"{counted}, of {self.sieve.summary}" if self.sieve else counted

    @property
    def fires(self) -> str:
        """Description of the condition."""
        bounds = " and ".join(f"{operator} {bound:,}" for operator, bound in self.holds.items())
        if self.silent:
            return f"{bounds}, for other rules"
        return f"{bounds}, if that is {self.baseline.summary}" if self.baseline else bounds

    @property
    def threshold(self) -> float:
        """The bound that the console shows."""
        return next(self.holds[op] for op in ("gte", "gt", "eq", "lte", "lt", "neq") if op in self.holds)

    def as_plan(self) -> dict[str, Any]:
        """Returns the rule as a part of the engine's plan."""

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
