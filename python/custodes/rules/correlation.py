"""Compilation of one correlation: its count or measure, the rules it refers to, its groups and its condition."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

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
from custodes.rules.bounds import read_bounds
from custodes.rules.conditions import Condition
from custodes.rules.measure import FieldAggregate, InOrder, Measure, PatternError, read_pattern
from custodes.rules.model import FINDING_FIELDS, POINTS, Branch, Rule
from custodes.rules.novelty import read_novelty
from custodes.rules.parse import ParsedRule
from custodes.rules.timing import read_timing

_TEMPORAL = (SigmaCorrelationType.TEMPORAL, SigmaCorrelationType.TEMPORAL_ORDERED)
_AMOUNTS = {
    SigmaCorrelationType.VALUE_SUM: "sum",
    SigmaCorrelationType.VALUE_AVG: "mean",
    SigmaCorrelationType.VALUE_MEDIAN: "quantile",
    SigmaCorrelationType.VALUE_PERCENTILE: "quantile",
}


@dataclass(frozen=True)
class ReferencedRule:
    """A rule that a correlation refers to."""

    reference: str
    """The name or id as written."""
    title: str
    when: Condition
    level: str
    fields: tuple[str, ...] | None = None
    """The group-by fields of a correlation, which with ``peak`` and ``points`` are all fields of its findings; ``None``
    for a detection."""


def compile_correlation(parsed: ParsedRule, targets: Sequence[ReferencedRule]) -> tuple[Rule | None, list[Fault]]:
    """Compiles a correlation with at least one target."""
    sigma, document = parsed.sigma, parsed.document
    assert isinstance(sigma, SigmaCorrelationRule)  # noqa: S101 - the caller passes correlations
    timing, faults = read_timing(parsed, sigma.timespan.seconds)
    condition, condition_faults = _condition(sigma, targets, document)
    holds, measure = condition
    fields, field_faults = _fields(sigma, document) if sigma.type == SigmaCorrelationType.VALUE_COUNT else ((), [])
    distinct = " and ".join(fields) or None
    branches, branch_faults = _branches(sigma, targets, document)
    faults += [*condition_faults, *field_faults, *branch_faults]
    counted = distinct or (measure.field if measure else None)
    if counted and counted not in FINDING_FIELDS and not any(_has(target, counted) for target in targets):
        problem = f"none of the rules has a field '{counted}' for this"
        faults.append(document.fault(problem, "correlation", "condition", "field"))
    baseline, baseline_faults = read_baseline(document)
    novelty, novelty_faults = read_novelty(document, distinct)
    faults += [*baseline_faults, *novelty_faults]
    if baseline and measure:
        faults.append(document.fault("a baseline requires a count, not a measure", "custodes", "baseline"))
    faults += _event_key_faults(targets, document)
    if faults or timing is None:
        return None, faults
    when = targets[0].when if len(targets) == 1 else {"any": [target.when for target in targets]}
    parts = tuple((target.title, target.when) for target in targets) if sigma.type in _TEMPORAL else ()
    rule = replace(
        base_of(parsed, when, tuple(sigma.group_by or ()), timing, holds),
        distinct=distinct,
        together=fields if len(fields) > 1 else (),
        measure=measure,
        parts=parts,
        branches=branches,
        baseline=baseline,
        sieve=novelty,
    )
    return rule, []


def _event_key_faults(targets: Sequence[ReferencedRule], document: Document) -> list[Fault]:
    """Returns a fault for each key that is for events, if the correlation counts findings."""
    if all(target.fields is None for target in targets):
        return []
    own = document.data.get("custodes") or {}
    return [
        document.fault(f"'{key}' is for correlations of events, not of findings", "custodes", key)
        for key in ("baseline", "new", "dormant")
        if key in own
    ]


def _has(target: ReferencedRule, field: str) -> bool:
    """Returns whether a target can have a field."""
    return target.fields is None or field in target.fields


def _condition(
    sigma: SigmaCorrelationRule, targets: Sequence[ReferencedRule], document: Document
) -> tuple[tuple[dict[str, float], Measure | None], list[Fault]]:
    """Compiles the condition to bounds, and to the measure that is compared with them, if it is no count."""
    in_order = sigma.type == SigmaCorrelationType.TEMPORAL_ORDERED
    if isinstance(sigma.condition, SigmaExtendedCorrelationCondition):
        names = [target.reference for target in targets]
        try:
            pattern = read_pattern(sigma.condition.parsed, sigma.condition.expression, names, in_order=in_order)
        except PatternError as error:
            return ({}, None), [document.fault(str(error), "correlation", "condition")]
        return ({"gte": 1}, pattern), []
    kind = _AMOUNTS.get(sigma.type)
    most = len(targets) if sigma.type in _TEMPORAL and len(targets) > 1 else None
    holds, faults = read_bounds(document, whole=kind is None, most=most)
    if sigma.type in _TEMPORAL:
        if len(targets) < 2:
            problem = f"{sigma.type.name.lower()} requires two rules or more"
            faults.append(document.fault(problem, "correlation", "rules"))
        return (holds or {"gte": len(targets)}, InOrder() if in_order else None), faults
    if kind is None:
        return (holds, None), faults
    fields, field_faults = _fields(sigma, document, most=1)
    quantile, quantile_faults = _quantile(sigma, document) if kind == "quantile" else (None, [])
    measure = FieldAggregate(kind, fields[0], quantile) if fields else None
    return (holds, measure), [*faults, *field_faults, *quantile_faults]


def _quantile(sigma: SigmaCorrelationRule, document: Document) -> tuple[float, list[Fault]]:
    if sigma.type == SigmaCorrelationType.VALUE_MEDIAN:
        return 0.5, []
    percentile = sigma.condition.percentile if isinstance(sigma.condition, SigmaCorrelationCondition) else None
    if percentile is None or not 0 <= percentile <= 100:
        problem, hint = (
            "value_percentile requires a percentile from 0 to 100",
            "like {field: count, percentile: 95, gte: 500}",
        )
        return 0.5, [document.fault(problem, "correlation", "condition", hint=hint)]
    return percentile / 100, []


def _fields(
    sigma: SigmaCorrelationRule, document: Document, most: int | None = None
) -> tuple[tuple[str, ...], list[Fault]]:
    """Returns the counted or measured fields, at least one, by the names that pipelines gave them."""
    condition = sigma.condition
    field = condition.fieldref if isinstance(condition, SigmaCorrelationCondition) else None
    named: list[object] = [*field] if isinstance(field, list) else [field]
    fields = tuple(name for name in named if isinstance(name, str))
    if fields and (most is None or len(fields) <= most):
        return fields, []
    problem = f"{sigma.type.name.lower()} requires one field"
    return (), [document.fault(problem, "correlation", "condition", "field")]


def _branches(
    sigma: SigmaCorrelationRule, targets: Sequence[ReferencedRule], document: Document
) -> tuple[tuple[Branch, ...], list[Fault]]:
    """Returns the group-by fields of each target, if they are not the same for all."""
    aliases = {alias.alias: {ref.reference: field for ref, field in alias.mapping.items()} for alias in sigma.aliases}
    faults = _alias_faults(aliases, targets, document)
    if not aliases and all(target.fields is None for target in targets):
        return (), faults
    branches = []
    for target in targets:
        fields = tuple(aliases.get(name, {}).get(target.reference, name) for name in sigma.group_by or ())
        for field in fields:
            if not _has(target, field):
                given = ", ".join(target.fields or ()) or "nothing"
                hint = f"they are grouped by {given}; add it there, or an alias here"
                problem = f"the findings of '{target.reference}' have no '{field}'"
                faults.append(document.fault(problem, "correlation", "group-by", hint=hint))
        branches.append(Branch(target.when, fields, 0 if target.fields is None else POINTS[target.level]))
    return tuple(branches), faults


def _alias_faults(
    aliases: Mapping[str, Iterable[str]], targets: Sequence[ReferencedRule], document: Document
) -> list[Fault]:
    """Returns a fault for each alias of a rule that the correlation does not refer to."""
    references = {target.reference for target in targets}
    return [
        document.fault(
            f"'{reference}' is not among the rules",
            *("correlation", "aliases", name, reference),
            hint=did_you_mean(reference, references),
        )
        for name, by_rule in aliases.items()
        for reference in by_rule
        if reference not in references
    ]
