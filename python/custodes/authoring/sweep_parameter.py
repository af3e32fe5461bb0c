"""Sweep parameter of a backtest: the rule's threshold, or the factor of its baseline."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from custodes.rules import Rule


@dataclass(frozen=True)
class SweepPoint:
    """Findings at one value of the parameter."""

    threshold: float
    findings: int
    groups: int
    """Number of distinct groups with a finding."""

    def a_week(self, weeks: float) -> float:
        return self.findings / weeks


class BacktestError(ValueError):
    """The rule cannot be evaluated at other thresholds."""


class SweepParameter(StrEnum):
    """The property of a rule that a backtest varies."""

    threshold = "threshold"
    """The threshold of the count."""
    factor = "factor"
    """The factor of the baseline."""

    def of(self, rule: Rule) -> int:
        """Returns the rule's own value, in :attr:`unit`. Raises :class:`BacktestError` if it has none."""
        if not rule.grows:
            raise BacktestError(f"'{rule.title}' has no threshold that more events reach; a backtest needs gte or gt")
        if self is SweepParameter.threshold:
            return math.ceil(max(rule.holds.get("gte", 1), rule.holds.get("gt", 0) + 1))
        if rule.baseline is None:
            raise BacktestError(f"'{rule.title}' has no baseline, and so no factor")
        return round(rule.baseline.factor / self.unit)

    @property
    def unit(self) -> float:
        """Smallest step."""
        return 1 if self is SweepParameter.threshold else 0.01

    def shown(self, at: SweepPoint) -> SweepPoint:
        """Formats a value."""
        return at if self is SweepParameter.threshold else replace(at, threshold=round(at.threshold * self.unit, 2))

    def move(self, rule: Rule, to: int) -> Rule:
        """Returns the rule with another value, under an id made from the value."""
        moved = replace(rule, id=str(to), title=str(to))
        if self is SweepParameter.threshold or rule.baseline is None:
            return replace(moved, holds={"gte": to})
        return replace(moved, baseline=rule.baseline.model_copy(update={"factor": to * self.unit}))
