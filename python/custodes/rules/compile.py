"""Compilation of parsed rules to the engine's terms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta

from sigma.correlations import SigmaCorrelationType
from sigma.exceptions import SigmaError
from sigma.rule import SigmaRule

from custodes.config import Document, Fault
from custodes.config.faults import did_you_mean
from custodes.rules.base import base_of
from custodes.rules.conditions import Condition, UnsupportedError, compile_condition
from custodes.rules.correlation import ReferencedRule, compile_correlation
from custodes.rules.locate import field_place
from custodes.rules.model import Rule
from custodes.rules.novelty import read_novelty
from custodes.rules.parse import ParsedRule, sigma_fault
from custodes.rules.resolve import ResolvedRules
from custodes.rules.timing import SPANS, Timing, read_timing

CORRELATION_TYPES = tuple(SigmaCorrelationType)
"""The supported correlation types."""
OWN_KEYS = (*SPANS, "baseline", "new", "dormant", "tuning", "runbook")
"""Keys under a rule's ``custodes`` key."""
_PLANNED_KEYS = ("reset",)
_AN_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class CompiledRule:
    """A rule to be validated by the engine."""

    rule: Rule
    document: Document
    depends_on: frozenset[str] = frozenset()
    """Ids of the rules that a correlation refers to."""
    is_probe: bool = False
    """Whether the rule exists only to validate the condition of a detection, and is not in the rule set."""

    def as_target(self, reference: str, parsed: ParsedRule) -> ReferencedRule:
        """Returns the rule as a correlation sees it: the events of a detection, or the findings of a correlation."""
        if parsed.is_correlation:
            opened = {"opened": self.rule.id}
            return ReferencedRule(reference, parsed.title, opened, self.rule.level, self.rule.group_by)
        return ReferencedRule(reference, parsed.title, self.rule.when, parsed.level)


def compile_rules(resolved: ResolvedRules) -> tuple[list[CompiledRule], list[Fault]]:
    """Returns the rules that compile: detections, then correlations, each after the ones it refers to."""
    detections, faults = _compile_detections(resolved)
    compiled = {detection.rule.id: detection for detection in detections}
    for parsed in resolved.correlations:
        key_faults = _key_faults(parsed)
        faults += key_faults
        targets = resolved.targets.get(parsed.id, ())
        known = [
            compiled[target.id].as_target(reference, target) for reference, target in targets if target.id in compiled
        ]
        if not known or len(known) < len(targets) or key_faults:
            continue
        rule, correlation_faults = compile_correlation(parsed, known)
        faults += correlation_faults
        if rule is not None:
            rule = replace(rule, silent=parsed.id in resolved.silent)
            depends_on = frozenset(target.id for _, target in targets)
            compiled[rule.id] = CompiledRule(rule, parsed.document, depends_on)
    faults += _title_faults([compiled[parsed.id] for parsed in resolved.rules if parsed.id in compiled])
    return list(compiled.values()), faults


def _compile_detections(resolved: ResolvedRules) -> tuple[list[CompiledRule], list[Fault]]:
    """Returns a rule for each detection with findings of its own, and a probe for each other detection."""
    compiled: list[CompiledRule] = []
    faults: list[Fault] = []
    for parsed in resolved.rules:
        if parsed.is_correlation:
            continue
        when, condition_faults = _condition(parsed)
        faults += condition_faults
        if when is None:
            continue
        rule = None
        if parsed.id not in resolved.silent:
            rule, rule_faults = _single(parsed, when)
            faults += rule_faults
        probe = base_of(parsed, when, (), Timing(_AN_HOUR, _AN_HOUR, timedelta(0)), {"gte": 1})
        compiled.append(CompiledRule(rule or probe, parsed.document, is_probe=rule is None))
    return compiled, faults


def _condition(parsed: ParsedRule) -> tuple[Condition | None, list[Fault]]:
    """Compiles the condition of a detection."""
    sigma, document = parsed.sigma, parsed.document
    assert isinstance(sigma, SigmaRule)  # noqa: S101 - the caller passes detections
    try:
        conditions = [compile_condition(condition.parsed) for condition in sigma.detection.parsed_condition]
    except UnsupportedError as error:
        place = field_place(document, error.field) if error.field else ("detection",)
        return None, [document.fault(str(error), *place)]
    except SigmaError as error:
        return None, [sigma_fault(error, document)]
    except Exception as error:  # pySigma raises other errors for some values of the wrong type
        return None, [document.fault(f"not a detection: {type(error).__name__}: {error}", "detection")]
    return conditions[0] if len(conditions) == 1 else {"any": conditions}, []


def _single(parsed: ParsedRule, when: Condition) -> tuple[Rule | None, list[Fault]]:
    """Compiles a detection that no correlation refers to: one event suffices, with a finding per actor and hour."""
    if faults := _key_faults(parsed):
        return None, faults
    timing, faults = read_timing(parsed, _AN_HOUR)
    document = parsed.document
    novelty, novelty_faults = read_novelty(document, None)
    faults += novelty_faults
    if "baseline" in (document.data.get("custodes") or {}):
        problem = "a baseline requires a correlation"
        faults.append(document.fault(problem, "custodes", "baseline"))
    if faults or timing is None:
        return None, faults
    return replace(base_of(parsed, when, ("actor",), timing, {"gte": 1}), sieve=novelty), []


def _key_faults(parsed: ParsedRule) -> list[Fault]:
    """Returns the faults of keys under ``custodes`` that are unknown."""
    document = parsed.document
    own = document.data.get("custodes") or {}
    if not isinstance(own, dict):
        return [document.fault("'custodes' must be a mapping", "custodes")]
    faults = []
    for key in own:
        if key in _PLANNED_KEYS:
            faults.append(document.fault(f"'{key}' is not supported yet", "custodes", key))
        elif key not in OWN_KEYS:
            hint = did_you_mean(str(key), OWN_KEYS)
            faults.append(document.fault(f"unknown key 'custodes.{key}'", "custodes", key, hint=hint))
    return faults


def _title_faults(compiled: Iterable[CompiledRule]) -> list[Fault]:
    """Returns a fault for each rule whose title an earlier rule has."""
    first: dict[str, Rule] = {}
    faults = []
    for candidate in compiled:
        if candidate.is_probe:
            continue
        title = candidate.rule.title
        if title in first:
            problem = f"title '{title}' is taken by {first[title].file}:{first[title].line}"
            faults.append(candidate.document.fault(problem, "title", hint="metrics and alerts name rules by title"))
        first[title] = candidate.rule
    return faults
