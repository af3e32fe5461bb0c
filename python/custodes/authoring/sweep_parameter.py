"""What of a rule a backtest asks at other places: its threshold, or how many times the usual is too much."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from custodes.rules import Rule


@dataclass(frozen=True)
class SweepPoint:
    """What there would have been at a threshold, or whatever else the lever is."""

    threshold: float
    findings: int
    groups: int
    """Different ones that had a finding."""

    def a_week(self, weeks: float) -> float:
        return self.findings / weeks


class BacktestError(ValueError):
    """A rule that cannot be asked at other thresholds."""


class SweepParameter(StrEnum):
    """What of a rule a backtest asks at other values."""

    threshold = "threshold"
    """Its count."""
    factor = "factor"
    """How many times the usual is too much, of a rule with a baseline."""

    def of(self, rule: Rule) -> int:
        """Where it stands, in :attr:`unit`. Raises :class:`BacktestError` for a rule that has none."""
        if not rule.grows:
            raise BacktestError(f"'{rule.title}' has no threshold that more events reach; a backtest wants gte or gt")
        if self is SweepParameter.threshold:
            return math.ceil(max(rule.holds.get("gte", 1), rule.holds.get("gt", 0) + 1))
        if rule.baseline is None:
            raise BacktestError(f"'{rule.title}' has no baseline, and so no factor")
        return round(rule.baseline.factor / self.unit)

    @property
    def unit(self) -> float:
        """The least step."""
        return 1 if self is SweepParameter.threshold else 0.01

    def shown(self, at: SweepPoint) -> SweepPoint:
        """With its place as people know it."""
        return at if self is SweepParameter.threshold else replace(at, threshold=round(at.threshold * self.unit, 2))

    def move(self, rule: Rule, to: int) -> Rule:
        """The rule with the lever at another place, by which it goes."""
        moved = replace(rule, id=str(to), title=str(to))
        if self is SweepParameter.threshold or rule.baseline is None:
            return replace(moved, holds={"gte": to})
        return replace(moved, baseline=rule.baseline.model_copy(update={"factor": to * self.unit}))
