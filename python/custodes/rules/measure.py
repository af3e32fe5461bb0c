"""Measures that a correlation compares with its condition instead of a count: amounts of a field, and rule patterns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sigma.correlations import (
    CorrelationConditionAND,
    CorrelationConditionItem,
    CorrelationConditionNOT,
    CorrelationConditionOR,
    SigmaRuleReference,
)

_MOST_WAYS = 256


@dataclass(frozen=True)
class FieldAggregate:
    """A sum, a mean or a quantile of the numbers in a field."""

    kind: str
    """``sum``, ``mean`` or ``quantile``."""
    field: str
    quantile: float | None = None

    @property
    def grows(self) -> bool:
        """Whether further events can only increase the measure, so that it is evaluated with every event."""
        return self.kind == "sum"

    def as_plan(self) -> dict[str, Any]:
        """Returns the measure as a part of the engine's plan."""
        quantile = {} if self.quantile is None else {"quantile": self.quantile}
        return {self.kind: {"field": self.field, **quantile}}

    @property
    def summary(self) -> str:
        """The measure in a few words."""
        if self.quantile is None:
            return f"{self.kind} of {self.field}"
        return f"median of {self.field}" if self.quantile == 0.5 else f"{self.quantile:.0%} quantile of {self.field}"


@dataclass(frozen=True)
class InOrder:
    """The number of referenced rules that were met one after another, in the correlation's order."""

    grows = True
    field = None

    def as_plan(self) -> str:
        """Returns the measure as a part of the engine's plan."""
        return "in_order"

    @property
    def summary(self) -> str:
        """The measure in a few words."""
        return "rules met one after another"


@dataclass(frozen=True)
class Way:
    """Rules, by index in the correlation, that must be met, and others that must not."""

    met: tuple[int, ...]
    """In the order of the expression."""
    absent: tuple[int, ...]


@dataclass(frozen=True)
class Pattern:
    """A measure that is 1 while the referenced rules are met in one of several ways, otherwise 0."""

    expression: str
    """The expression as written."""
    ways: tuple[Way, ...]
    in_order: bool
    """Whether the rules of a way must be met one after another."""
    field = None

    @property
    def grows(self) -> bool:
        """Whether further events can only increase the measure."""
        return not any(way.absent for way in self.ways)

    def as_plan(self) -> dict[str, Any]:
        """Returns the measure as a part of the engine's plan."""
        ways = [{"met": way.met, "in_order": self.in_order, "absent": way.absent} for way in self.ways]
        return {"pattern": {"ways": ways}}

    @property
    def summary(self) -> str:
        """The measure in a few words."""
        return f"{self.expression}{', one after another' if self.in_order else ''}"


Measure = FieldAggregate | InOrder | Pattern


class PatternError(ValueError):
    """An expression over rules that the engine cannot evaluate."""


def read_pattern(
    parsed: CorrelationConditionItem | SigmaRuleReference, expression: str, names: Sequence[str], *, in_order: bool
) -> Pattern:
    """Returns the ways in which an expression over ``names`` can hold.

    Raises :class:`PatternError` if there is no way, or if there are too many.
    """
    ways = [way for way in _ways(parsed, names, holds=True) if not set(way.met) & set(way.absent)]
    if not ways:
        raise PatternError("the expression can never hold")
    return Pattern(expression, tuple(dict.fromkeys(ways)), in_order)


def _ways(node: CorrelationConditionItem | SigmaRuleReference, names: Sequence[str], *, holds: bool) -> list[Way]:
    """Returns the disjunctive normal form of a part of an expression, or of its negation."""
    if isinstance(node, SigmaRuleReference):
        place = (names.index(node.reference),)
        return [Way(place, ()) if holds else Way((), place)]
    if isinstance(node, CorrelationConditionNOT):
        return _ways(node.args[0], names, holds=not holds)
    of_parts = [_ways(part, names, holds=holds) for part in node.args]
    if isinstance(node, CorrelationConditionAND if holds else CorrelationConditionOR):
        ways = of_parts[0]
        for more in of_parts[1:]:
            ways = [_both(way, other) for way in ways for other in more]
            if len(ways) > _MOST_WAYS:
                raise PatternError(f"the expression can hold in more than {_MOST_WAYS} ways")
        return ways
    return [way for ways in of_parts for way in ways]


def _both(way: Way, other: Way) -> Way:
    return Way(tuple(dict.fromkeys(way.met + other.met)), tuple(dict.fromkeys(way.absent + other.absent)))
