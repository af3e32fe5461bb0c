"""Compilation of parsed rules to the engine's terms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta

from sigma.exceptions import SigmaError
from sigma.rule import SigmaRule

from custodes.config import Document, Fault
from custodes.rules.base import base_of
from custodes.rules.conditions import Condition, UnsupportedError, compile_condition
from custodes.rules.correlation import ReferencedRule, compile_correlation
from custodes.rules.keys import SPANS
from custodes.rules.locate import field_place
from custodes.rules.model import Rule
from custodes.rules.novelty import read_novelty
from custodes.rules.parse import ParsedRule, cause_of, sigma_fault
from custodes.rules.resolve import ResolvedRules
from custodes.rules.timing import Timing, read_timing

_COUNTING_KEYS = (*SPANS, "baseline", "new", "dormant")
"""Keys under a rule's ``custodes`` key that change what it counts."""
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
        targets = resolved.targets.get(parsed.id, ())
        known = [
            compiled[target.id].as_target(reference, target) for reference, target in targets if target.id in compiled
        ]
        if not known or len(known) < len(targets):
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
        else:
            faults += _silent_faults(parsed)
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
    except Exception as error:  # pySigma raises other errors for some values
        return None, [document.fault(f"not a detection: {cause_of(error)}", "detection")]
    return conditions[0] if len(conditions) == 1 else {"any": conditions}, []


def _single(parsed: ParsedRule, when: Condition) -> tuple[Rule | None, list[Fault]]:
    """Compiles a detection that no correlation refers to: one event suffices, with a finding per actor and hour."""
    timing, faults = read_timing(parsed, _AN_HOUR // timedelta(seconds=1))
    document = parsed.document
    novelty, novelty_faults = read_novelty(document, None)
    faults += novelty_faults
    if "baseline" in (document.data.get("custodes") or {}):
        problem = "a baseline requires a correlation"
        faults.append(document.fault(problem, "custodes", "baseline"))
    if faults or timing is None:
        return None, faults
    return replace(base_of(parsed, when, ("actor",), timing, {"gte": 1}), sieve=novelty), []


def _silent_faults(parsed: ParsedRule) -> list[Fault]:
    """Returns a fault for each key that has no effect because only correlations count the detection."""
    own = parsed.document.data.get("custodes") or {}
    hint = "write it in the correlation"
    return [
        parsed.document.fault(f"'{key}' has no effect: the rule has no findings of its own", "custodes", key, hint=hint)
        for key in _COUNTING_KEYS
        if key in own
    ]


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
