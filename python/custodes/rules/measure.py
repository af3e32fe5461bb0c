"""What a correlation holds against its condition beside counts: amounts of a field, and the order of rules."""

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
    """A sum, a mean or a quantile of a field's numbers."""

    kind: str
    """``sum``, ``mean`` or ``quantile``."""
    field: str
    quantile: float | None = None

    @property
    def grows(self) -> bool:
        """Whether more events can only make more of it, so that it is judged with every event."""
        return self.kind == "sum"

    def as_plan(self) -> dict[str, Any]:
        """The measure as a part of the engine's plan."""
        quantile = {} if self.quantile is None else {"quantile": self.quantile}
        return {self.kind: {"field": self.field, **quantile}}

    @property
    def said(self) -> str:
        """In a few words."""
        if self.quantile is None:
            return f"{self.kind} of {self.field}"
        return f"median of {self.field}" if self.quantile == 0.5 else f"{self.quantile:.0%} quantile of {self.field}"


@dataclass(frozen=True)
class InOrder:
    """How many of the rules a correlation refers to were met one after another, in its order."""

    grows = True
    field = None

    def as_plan(self) -> str:
        """The measure as a part of the engine's plan."""
        return "in_order"

    @property
    def said(self) -> str:
        """In a few words."""
        return "rules met one after another"


@dataclass(frozen=True)
class Way:
    """Rules, by their places in a correlation, that were met, and others that were not."""

    met: tuple[int, ...]
    """In the order they were written."""
    absent: tuple[int, ...]


@dataclass(frozen=True)
class Pattern:
    """1 where the rules a correlation refers to were met in one of these ways."""

    expression: str
    """As it was written."""
    ways: tuple[Way, ...]
    in_order: bool
    """Whether the rules of a way were met one after another."""
    field = None

    @property
    def grows(self) -> bool:
        """Whether more events can only make more of it."""
        return not any(way.absent for way in self.ways)

    def as_plan(self) -> dict[str, Any]:
        """The measure as a part of the engine's plan."""
        ways = [{"met": way.met, "in_order": self.in_order, "absent": way.absent} for way in self.ways]
        return {"pattern": {"ways": ways}}

    @property
    def said(self) -> str:
        """In a few words."""
        return f"{self.expression}{', one after another' if self.in_order else ''}"


Measure = FieldAggregate | InOrder | Pattern


class PatternError(ValueError):
    """An expression over rules that no engine can look for."""


def read_pattern(
    parsed: CorrelationConditionItem | SigmaRuleReference, expression: str, names: Sequence[str], *, in_order: bool
) -> Pattern:
    """The ways in which an expression over ``names`` can hold.

    Raises :class:`PatternError` where there are none, or too many.
    """
    ways = [way for way in _ways(parsed, names, holds=True) if not set(way.met) & set(way.absent)]
    if not ways:
        raise PatternError("this can never hold")
    return Pattern(expression, tuple(dict.fromkeys(ways)), in_order)


def _ways(node: CorrelationConditionItem | SigmaRuleReference, names: Sequence[str], *, holds: bool) -> list[Way]:
    """The disjunctive normal form of a part of an expression, or of its contrary."""
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
                raise PatternError(f"there are more than {_MOST_WAYS} ways for this to hold")
        return ways
    return [way for ways in of_parts for way in ways]


def _both(way: Way, other: Way) -> Way:
    return Way(tuple(dict.fromkeys(way.met + other.met)), tuple(dict.fromkeys(way.absent + other.absent)))
