"""Compiling one correlation: what it counts or measures, of which rules, in which groups, and when that is too much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sigma.correlations import (
    SigmaCorrelationCondition,
    SigmaCorrelationRule,
    SigmaCorrelationType,
    SigmaExtendedCorrelationCondition,
)

from custodes.config import Document, Fault
from custodes.config.faults import did_you_mean
from custodes.rules.base import base_of
from custodes.rules.baseline import read_baseline
from custodes.rules.conditions import Condition
from custodes.rules.measure import FieldAggregate, InOrder, Measure, PatternError, read_pattern
from custodes.rules.model import POINTS, Branch, Rule
from custodes.rules.novelty import read_sieve
from custodes.rules.parse import OPERATORS, ParsedRule
from custodes.rules.timing import read_timing

_TEMPORAL = (SigmaCorrelationType.TEMPORAL, SigmaCorrelationType.TEMPORAL_ORDERED)
_AMOUNTS = {
    SigmaCorrelationType.VALUE_SUM: "sum",
    SigmaCorrelationType.VALUE_AVG: "mean",
    SigmaCorrelationType.VALUE_MEDIAN: "quantile",
    SigmaCorrelationType.VALUE_PERCENTILE: "quantile",
}
_OF_OPENINGS = ("peak", "points")
"""Numbers that every opening has."""


@dataclass(frozen=True)
class ReferencedRule:
    """A rule that a correlation refers to."""

    reference: str
    """By this name or id."""
    title: str
    when: Condition
    level: str
    fields: tuple[str, ...] | None = None
    """What the findings of a correlation are grouped by: with ``peak`` and ``points`` all that their openings have.
    ``None`` for a detection."""


def compile_correlation(one: ParsedRule, targets: Sequence[ReferencedRule], faults: list[Fault]) -> Rule | None:
    """The rule, or ``None`` and what is wrong with it in ``faults``. There is at least one target."""
    sigma = one.sigma
    assert isinstance(sigma, SigmaCorrelationRule)  # noqa: S101 - the caller has looked
    before = len(faults)
    document = one.document
    timing = read_timing(one, timedelta(seconds=sigma.timespan.seconds), faults)
    holds, measure = _condition(sigma, targets, document, faults)
    counts_values = sigma.type == SigmaCorrelationType.VALUE_COUNT
    fields = _fields(sigma, document, faults) if counts_values else ()
    distinct = " and ".join(fields) or None
    group_by = tuple(sigma.group_by or ())
    branches = _branches(sigma, targets, document, faults)
    counted = distinct or (measure.field if measure else None)
    if counted and counted not in _OF_OPENINGS and not any(_has(target, counted) for target in targets):
        faults.append(
            document.fault(f"none of the rules has a field '{counted}' for this", "correlation", "condition", "field")
        )
    baseline, sieve = None, None
    if document.data.get("custodes"):
        baseline, sieve = read_baseline(document, faults), read_sieve(document, distinct, faults)
        if baseline and measure:
            faults.append(document.fault("a baseline is for what is counted", "custodes", "baseline"))
        for key in ("baseline", "new", "dormant"):
            if key in document.data["custodes"] and any(target.fields is not None for target in targets):
                faults.append(document.fault(f"'{key}' is for events, not for findings", "custodes", key))
    if len(faults) > before or timing is None:
        return None
    when = targets[0].when if len(targets) == 1 else {"any": [target.when for target in targets]}
    parts = tuple((target.title, target.when) for target in targets) if sigma.type in _TEMPORAL else ()
    return replace(
        base_of(one, when, group_by, timing, holds),
        distinct=distinct,
        together=fields if len(fields) > 1 else (),
        measure=measure,
        parts=parts,
        branches=branches,
        baseline=baseline,
        sieve=sieve,
    )


def _has(target: ReferencedRule, field: str) -> bool:
    """Whether it may have a field."""
    return target.fields is None or field in target.fields


def _condition(
    sigma: SigmaCorrelationRule, targets: Sequence[ReferencedRule], document: Document, faults: list[Fault]
) -> tuple[dict[str, float], Measure | None]:
    """The bounds, and what is held against them if it is no count."""
    in_order = sigma.type == SigmaCorrelationType.TEMPORAL_ORDERED
    if isinstance(sigma.condition, SigmaExtendedCorrelationCondition):
        names = [target.reference for target in targets]
        try:
            pattern = read_pattern(sigma.condition.parsed, sigma.condition.expression, names, in_order=in_order)
        except PatternError as error:
            faults.append(document.fault(str(error), "correlation", "condition"))
            return {}, None
        return {"gte": 1}, pattern
    condition = document.data["correlation"].get("condition", {})
    kind = _AMOUNTS.get(sigma.type)
    holds = _bounds(document, condition, faults, whole=kind is None)
    if sigma.type in _TEMPORAL:
        if len(targets) < 2:
            faults.append(document.fault(f"{sigma.type.name.lower()} wants two rules or more", "correlation", "rules"))
        return holds or {"gte": len(targets)}, InOrder() if in_order else None
    if kind is None:
        return holds, None
    fields = _fields(sigma, document, faults, most=1)
    quantile = _quantile(sigma, document, faults) if kind == "quantile" else None
    return holds, FieldAggregate(kind, fields[0], quantile) if fields else None


def _quantile(sigma: SigmaCorrelationRule, document: Document, faults: list[Fault]) -> float:
    if sigma.type == SigmaCorrelationType.VALUE_MEDIAN:
        return 0.5
    percentile = sigma.condition.percentile if isinstance(sigma.condition, SigmaCorrelationCondition) else None
    if percentile is None or not 0 <= percentile <= 100:
        faults.append(
            document.fault("value_percentile wants a percentile from 0 to 100", "correlation", "condition",
                           hint="like {field: count, percentile: 95, gte: 500}")
        )  # fmt: skip
        return 0.5
    return percentile / 100


def _fields(
    sigma: SigmaCorrelationRule, document: Document, faults: list[Fault], most: int | None = None
) -> tuple[str, ...]:
    """The fields that are counted or measured, by the names that pipelines gave them; one at least, or a fault."""
    condition = sigma.condition
    field = condition.fieldref if isinstance(condition, SigmaCorrelationCondition) else None
    named: list[object] = [*field] if isinstance(field, list) else [field]
    fields = tuple(one for one in named if isinstance(one, str))
    if fields and (most is None or len(fields) <= most):
        return fields
    faults.append(document.fault(f"{sigma.type.name.lower()} is of one field", "correlation", "condition", "field"))
    return ()


def _bounds(document: Document, condition: dict[str, Any], faults: list[Fault], *, whole: bool) -> dict[str, float]:
    """Sigma's operators, and their bounds."""
    holds: dict[str, float] = {}
    for operator in OPERATORS:
        if operator not in condition:
            continue
        bound = condition[operator]
        is_whole = isinstance(bound, int) and not isinstance(bound, bool)
        if (is_whole and bound >= 0) or (not whole and (is_whole or isinstance(bound, float))):
            holds[operator] = bound
        else:
            wanted = "a whole number" if whole else "a number"
            faults.append(document.fault(f"'{operator}' wants {wanted}", "correlation", "condition", operator))
    return holds


def _branches(
    sigma: SigmaCorrelationRule, targets: Sequence[ReferencedRule], document: Document, faults: list[Fault]
) -> tuple[Branch, ...]:
    """By which fields the events of each target are grouped, where that is not the same for all."""
    group_by = tuple(sigma.group_by or ())
    aliases = {alias.alias: {ref.reference: field for ref, field in alias.mapping.items()} for alias in sigma.aliases}
    references = {target.reference for target in targets}
    for name, by_rule in aliases.items():
        for reference in by_rule:
            if reference not in references:
                hint = did_you_mean(reference, references)
                place = ("correlation", "aliases", name, reference)
                faults.append(document.fault(f"'{reference}' is not among the rules", *place, hint=hint))
    if not aliases and all(target.fields is None for target in targets):
        return ()
    branches = []
    for target in targets:
        fields = tuple(aliases.get(name, {}).get(target.reference, name) for name in group_by)
        for field in fields:
            if target.fields is not None and field not in target.fields:
                given = ", ".join(target.fields) or "nothing"
                faults.append(
                    document.fault(f"the findings of '{target.reference}' have no '{field}'", "correlation", "group-by",
                                   hint=f"they are grouped by {given}; add it there, or an alias here")
                )  # fmt: skip
        branches.append(Branch(target.when, fields, 0 if target.fields is None else POINTS[target.level]))
    return tuple(branches)
