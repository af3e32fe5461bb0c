"""Compiling parsed rules: references resolved, spans settled, conditions in the engine's terms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from sigma.correlations import (
    SigmaCorrelationRule,
    SigmaCorrelationType,
    SigmaExtendedCorrelationCondition,
)
from sigma.exceptions import SigmaError
from sigma.rule import SigmaRule

from custodes._core import Engine, PlanError
from custodes.config import Fault
from custodes.config.faults import did_you_mean
from custodes.config.mapping import Mapping
from custodes.config.yamldoc import Document
from custodes.rules.base import base_of
from custodes.rules.conditions import Condition, UnsupportedError, compile_condition
from custodes.rules.correlation import ReferencedRule, compile_correlation
from custodes.rules.locate import field_place
from custodes.rules.model import Rule
from custodes.rules.novelty import read_sieve
from custodes.rules.parse import ParsedRule, sigma_fault
from custodes.rules.plan import build_plan
from custodes.rules.timing import SPANS, Timing, read_timing

CORRELATION_TYPES = tuple(SigmaCorrelationType)
"""Those that are supported."""
OWN_KEYS = (*SPANS, "baseline", "new", "dormant", "tuning", "runbook")
"""What may stand under a rule's ``custodes`` key."""
_PLANNED_KEYS = ("reset",)
_AN_HOUR = timedelta(hours=1)


def compile_rules(parsed: list[ParsedRule], named: set[str], faults: list[Fault]) -> list[Rule]:
    """Compiles what can be; what can't goes to ``faults``. ``named`` are the names of rules with faults, too."""
    by_reference = _by_reference(parsed, faults)
    if by_reference is None:
        return []
    references = {one.id: _references(one, by_reference, named, faults) for one in parsed if _is_correlation(one)}
    referred = {target.id for targets in references.values() for _, target in targets}
    loud = {target.id for one in parsed if one.has_generated for _, target in references[one.id]}
    silent = {one.id for one in parsed if one.id in referred - loud and not one.generates}
    conditions = {one.id: _detection(one, faults) for one in parsed if isinstance(one.sigma, SigmaRule)}
    found: dict[str, Rule | None] = {}
    for one in _targets_first(parsed, references, faults):
        known: list[ReferencedRule] = []
        for reference, target in references[one.id]:
            when = conditions.get(target.id)
            rule = found.get(target.id)
            if when is not None:
                known.append(ReferencedRule(reference, target.title, when, target.level))
            elif rule is not None:
                known.append(ReferencedRule(reference, target.title, {"opened": rule.id}, rule.level, rule.group_by))
        is_sound = _has_sound_keys(one, faults)
        complete = is_sound and known and len(known) == len(_named_by(one))
        rule = compile_correlation(one, known, faults) if complete else None
        found[one.id] = rule and replace(rule, silent=one.id in silent)
    for one in parsed:
        when = conditions.get(one.id)
        if when is not None and one.id not in silent:
            found[one.id] = _single(one, when, faults)
    others = [rule for rule in found.values() if rule]
    rules: dict[str, Rule] = {}
    for one in parsed:
        rule = found.get(one.id)
        if rule is None or not _runs(rule, one, faults, others):
            continue
        if rule.title in rules:
            first = rules[rule.title]
            faults.append(
                one.document.fault(f"title '{rule.title}' is taken by {first.file}:{first.line}", "title",
                                   hint="metrics and alerts name rules by title")
            )  # fmt: skip
        rules[rule.title] = rule
    return list(rules.values())


def _is_correlation(one: ParsedRule) -> bool:
    return isinstance(one.sigma, SigmaCorrelationRule)


def _by_reference(parsed: list[ParsedRule], faults: list[Fault]) -> dict[str, ParsedRule] | None:
    """The rules by all that may be used to refer to them; ``None`` where two have the same."""
    before = len(faults)
    known: dict[str, ParsedRule] = {}
    for one in parsed:
        for reference in {str(one.sigma.id or ""), str(one.sigma.name or ""), one.id} - {""}:
            if reference in known:
                taken = known[reference].document
                faults.append(
                    one.document.fault(f"'{reference}' is taken by {taken.file}:{taken.line}", "id",
                                       hint="ids and names of rules must differ")
                )  # fmt: skip
            known[reference] = one
    return None if len(faults) > before else known


def _named_by(one: ParsedRule) -> list[str]:
    """What a correlation refers to, in its order."""
    sigma = one.sigma
    assert isinstance(sigma, SigmaCorrelationRule)  # noqa: S101 - the caller has looked
    if sigma.rules is None and isinstance(sigma.condition, SigmaExtendedCorrelationCondition):
        return sigma.condition.get_referenced_rules()
    return [reference.reference for reference in sigma.rules or ()]


def _references(
    one: ParsedRule, by_reference: dict[str, ParsedRule], named: set[str], faults: list[Fault]
) -> list[tuple[str, ParsedRule]]:
    """The rules a correlation refers to, as far as there are such."""
    targets = []
    for at, reference in enumerate(_named_by(one)):
        has_list = "rules" in one.document.data["correlation"]
        place = ("correlation", "rules", at) if has_list else ("correlation", "condition")
        if not isinstance(reference, str):
            faults.append(one.document.fault("a reference is a rule's name or id", *place))
        elif reference in by_reference:
            targets.append((reference, by_reference[reference]))
        elif reference not in named:
            hint = did_you_mean(reference, named)
            faults.append(one.document.fault(f"no rule '{reference}'", *place, hint=hint))
    return targets


def _targets_first(
    parsed: list[ParsedRule], references: dict[str, list[tuple[str, ParsedRule]]], faults: list[Fault]
) -> Iterator[ParsedRule]:
    """The correlations, each after those it refers to."""
    waiting = [one for one in parsed if _is_correlation(one)]
    while waiting:
        ids = {one.id for one in waiting}
        ready = [one for one in waiting if not any(target.id in ids for _, target in references[one.id])]
        if not ready:
            for one in waiting:
                faults.append(
                    one.document.fault("it refers to itself, by way of what it refers to", "correlation", "rules")
                )
            return
        yield from ready
        waiting = [one for one in waiting if one not in ready]


def _detection(one: ParsedRule, faults: list[Fault]) -> Condition | None:
    sigma = one.sigma
    assert isinstance(sigma, SigmaRule)  # noqa: S101 - the caller has looked
    try:
        conditions = [compile_condition(condition.parsed) for condition in sigma.detection.parsed_condition]
    except UnsupportedError as error:
        place = field_place(one.document, error.field) if error.field else ("detection",)
        faults.append(one.document.fault(str(error), *place))
        return None
    except SigmaError as error:
        faults.append(sigma_fault(error, one.document))
        return None
    except Exception as error:  # pySigma trips over some values of the wrong type
        faults.append(one.document.fault(f"not a detection: {type(error).__name__}: {error}", "detection"))
        return None
    when = conditions[0] if len(conditions) == 1 else {"any": conditions}
    probe = base_of(one, when, (), Timing(_AN_HOUR, _AN_HOUR, timedelta(0)), {"gte": 1})
    return when if _runs(probe, one, faults, []) else None


def _single(one: ParsedRule, when: Condition, faults: list[Fault]) -> Rule | None:
    """A detection no correlation refers to: one event is enough, findings an actor an hour."""
    timing = read_timing(one, _AN_HOUR, faults) if _has_sound_keys(one, faults) else None
    if timing is None:
        return None
    sieve = None
    if one.document.data.get("custodes"):
        before = len(faults)
        sieve = read_sieve(one.document, None, faults)
        if "baseline" in one.document.data["custodes"]:
            faults.append(one.document.fault("a baseline is for what a correlation counts", "custodes", "baseline"))
        if len(faults) > before:
            return None
    return replace(base_of(one, when, ("actor",), timing, {"gte": 1}), sieve=sieve)


def _has_sound_keys(one: ParsedRule, faults: list[Fault]) -> bool:
    """Whether all that stands under ``custodes`` is known."""
    own = one.document.data.get("custodes") or {}
    before = len(faults)
    if not isinstance(own, dict):
        faults.append(one.document.fault("'custodes' wants a mapping", "custodes"))
        return False
    for key in own:
        if key in _PLANNED_KEYS:
            faults.append(one.document.fault(f"'{key}' is not supported yet", "custodes", key))
        elif key not in OWN_KEYS:
            hint = did_you_mean(str(key), OWN_KEYS)
            faults.append(one.document.fault(f"unknown key 'custodes.{key}'", "custodes", key, hint=hint))
    return len(faults) == before


def _runs(rule: Rule, one: ParsedRule, faults: list[Fault], others: list[Rule]) -> bool:
    """Whether the engine takes the rule: it alone knows its regular expressions and paths.

    It is given those of ``others`` as well whose findings the rule counts.
    """
    try:
        Engine(build_plan(rule.with_followed(others), Mapping({"time": ["time"], "actor": ["actor"]})))
    except PlanError as error:
        faults.append(plan_fault(error, one.document))
        return False
    return True


def plan_fault(error: PlanError, document: Document) -> Fault:
    """Returns the engine's error as a fault of a rule's file, at the field that it concerns."""
    if error.field is None:
        return document.fault(error.problem)
    return document.fault(f"field '{error.field}': {error.problem}", *field_place(document, error.field))
