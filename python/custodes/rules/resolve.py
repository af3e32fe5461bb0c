"""Resolution of references: the rules that a correlation refers to, and the order in which rules compile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sigma.correlations import SigmaCorrelationRule, SigmaExtendedCorrelationCondition

from custodes.config import Document, Fault
from custodes.config.faults import did_you_mean
from custodes.rules.metadata import id_of, normal_reference
from custodes.rules.parse import ParsedRule

Target = tuple[str, ParsedRule]
"""A reference as written, and the rule that it refers to."""


@dataclass(frozen=True)
class ResolvedRules:
    """Parsed rules with their references."""

    rules: Sequence[ParsedRule] = ()
    """All rules, in the order of the files."""
    correlations: Sequence[ParsedRule] = ()
    """The correlations, each after the ones it refers to. Correlations that refer to themselves are missing."""
    targets: Mapping[str, Sequence[Target]] = field(default_factory=dict)
    """Targets of the correlations whose references all exist, by rule id."""
    silent: frozenset[str] = frozenset()
    """Ids of rules that only contribute to correlations and have no findings for people."""


def names_of(documents: Iterable[Document]) -> set[str]:
    """Returns the names and ids of detections and correlations.

    Those of rules with faults are included: a reference to such a rule is no other fault.
    """
    rules = [document for document in documents if isinstance(document.data, dict) and "filter" not in document.data]
    names = {str(rule.data["name"]) for rule in rules if isinstance(rule.data.get("name"), str | int)}
    return names | {id_ for rule in rules if (id_ := id_of(rule)) is not None}


def resolve_references(parsed: Sequence[ParsedRule], names: set[str]) -> tuple[ResolvedRules, list[Fault]]:
    """Resolves all references. ``names`` contains the names of rules with faults, too.

    Returns no rules if two of them have the same name or id.
    """
    by_name, faults = _by_name(parsed)
    if faults:
        return ResolvedRules(), faults
    targets: dict[str, Sequence[Target]] = {}
    complete: dict[str, Sequence[Target]] = {}
    correlations = [rule for rule in parsed if rule.is_correlation]
    for rule in correlations:
        targets[rule.id], reference_faults = _targets(rule, by_name, names)
        faults += reference_faults
        if targets[rule.id] and len(targets[rule.id]) == len(_references(rule)):
            complete[rule.id] = targets[rule.id]
    referred = {target.id for of_rule in targets.values() for _, target in of_rule}
    generated = {target.id for rule in correlations if rule.has_generated for _, target in targets[rule.id]}
    silent = frozenset(rule.id for rule in parsed if rule.id in referred - generated and not rule.generates)
    ordered, cycle_faults = _targets_first(correlations, targets)
    return ResolvedRules(parsed, ordered, complete, silent), faults + cycle_faults


def _by_name(parsed: Iterable[ParsedRule]) -> tuple[dict[str, ParsedRule], list[Fault]]:
    """Returns the rules by their ids and names."""
    by_name: dict[str, ParsedRule] = {}
    faults = []
    for rule in parsed:
        for name in sorted(rule.references):
            if name in by_name:
                first = by_name[name].document
                faults.append(
                    rule.document.fault(f"'{name}' is taken by {first.file}:{first.line}", "id",
                                        hint="ids and names of rules must differ")
                )  # fmt: skip
            by_name[name] = rule
    return by_name, faults


def _references(rule: ParsedRule) -> list[str]:
    """Returns the references of a correlation, in order."""
    sigma = rule.sigma
    assert isinstance(sigma, SigmaCorrelationRule)  # noqa: S101 - the callers pass correlations
    if sigma.rules is None and isinstance(sigma.condition, SigmaExtendedCorrelationCondition):
        return sigma.condition.get_referenced_rules()
    return [reference.reference for reference in sigma.rules or ()]


def _targets(rule: ParsedRule, by_name: Mapping[str, ParsedRule], names: set[str]) -> tuple[list[Target], list[Fault]]:
    """Returns the rules that a correlation refers to, without missing ones."""
    targets: list[Target] = []
    faults = []
    has_list = "rules" in rule.document.data["correlation"]
    for index, reference in enumerate(_references(rule)):
        place = ("correlation", "rules", index) if has_list else ("correlation", "condition")
        if not isinstance(reference, str):
            faults.append(rule.document.fault("a reference must be the name or id of a rule", *place))
        elif (target := by_name.get(normal_reference(reference))) is not None:
            if has_list and any(target is other for _, other in targets):
                faults.append(rule.document.fault(f"the rule '{reference}' is listed twice", *place))
            else:
                targets.append((reference, target))
        elif normal_reference(reference) not in names:
            hint = did_you_mean(reference, names)
            faults.append(rule.document.fault(f"no rule '{reference}'", *place, hint=hint))
    return targets, faults


def _targets_first(
    correlations: Sequence[ParsedRule], targets: Mapping[str, Sequence[Target]]
) -> tuple[list[ParsedRule], list[Fault]]:
    """Returns the correlations, each after the ones it refers to."""
    ordered: list[ParsedRule] = []
    waiting = list(correlations)
    while waiting:
        ids = {rule.id for rule in waiting}
        ready = [rule for rule in waiting if not any(target.id in ids for _, target in targets[rule.id])]
        if not ready:
            problem = "the rule refers to itself, directly or through other rules"
            return ordered, [rule.document.fault(problem, "correlation", "rules") for rule in waiting]
        ordered += ready
        waiting = [rule for rule in waiting if rule not in ready]
    return ordered, []
