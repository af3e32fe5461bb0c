"""Compiling parsed rules: references resolved, spans settled, conditions in the engine's terms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sigma.correlations import SigmaCorrelationRule, SigmaCorrelationType
from sigma.exceptions import SigmaError
from sigma.rule import SigmaRule

from custodes._core import Engine
from custodes.config import Document, Fault, parse_duration
from custodes.config.faults import did_you_mean
from custodes.config.mapping import Mapping
from custodes.rules.baseline import read_baseline
from custodes.rules.conditions import Condition, UnsupportedError, compile_condition
from custodes.rules.locate import field_place
from custodes.rules.model import LEVELS, Rule
from custodes.rules.parse import OPERATORS, Parsed, sigma_fault
from custodes.rules.plan import build_plan
from custodes.rules.sieve import read_sieve

CORRELATION_TYPES = (
    SigmaCorrelationType.EVENT_COUNT,
    SigmaCorrelationType.VALUE_COUNT,
    SigmaCorrelationType.TEMPORAL,
)
"""Those that are supported."""
_SPANS = ("keep_open", "resolution")
OWN_KEYS = (*_SPANS, "baseline", "new", "dormant", "tuning", "runbook")
"""What may stand under a rule's ``custodes`` key."""
_PLANNED_KEYS = ("reset",)
_LONGEST_SECONDS = 10 * 366 * 86_400
_PANES = 600
"""Panes of a window unless ``resolution`` says otherwise."""


def compile_rules(parsed: list[Parsed], named: set[str], faults: list[Fault]) -> list[Rule]:
    """Compiles what can be; what can't goes to ``faults``. ``named`` are the names of rules with faults, too."""
    before = len(faults)
    by_reference: dict[str, Parsed] = {}
    for one in parsed:
        for reference in {str(one.sigma.id or ""), str(one.sigma.name or ""), one.id} - {""}:
            if reference in by_reference:
                taken = by_reference[reference].document
                faults.append(
                    one.document.fault(f"'{reference}' is taken by {taken.file}:{taken.line}", "id",
                                       hint="ids and names of rules must differ")
                )  # fmt: skip
            by_reference[reference] = one
    if len(faults) > before:
        return []
    referred: set[str] = set()
    correlations: list[tuple[Parsed, list[Parsed]]] = []
    for one in parsed:
        if isinstance(one.sigma, SigmaCorrelationRule):
            targets = _resolve(one, by_reference, named, faults)
            referred.update(target.id for target in targets)
            correlations.append((one, targets))
    conditions = {one.id: _detection(one, faults) for one in parsed if isinstance(one.sigma, SigmaRule)}
    found: dict[str, Rule | None] = {}
    for one, targets in correlations:
        found[one.id] = _correlation(one, [(target.title, conditions[target.id]) for target in targets], faults)
    for one in parsed:
        when = conditions.get(one.id)
        if when is not None and (one.id not in referred or one.generates):
            found[one.id] = _single(one, when, faults)
    rules: dict[str, Rule] = {}
    for one in parsed:
        rule = found.get(one.id)
        if rule is None or not _runs(rule, one, faults):
            continue
        if rule.title in rules:
            first = rules[rule.title]
            faults.append(
                one.document.fault(f"title '{rule.title}' is taken by {first.file}:{first.line}", "title",
                                   hint="metrics and alerts name rules by title")
            )  # fmt: skip
        rules[rule.title] = rule
    return list(rules.values())


def _resolve(one: Parsed, by_reference: dict[str, Parsed], named: set[str], faults: list[Fault]) -> list[Parsed]:
    targets = []
    for at, reference in enumerate(one.sigma.rules or []):  # type: ignore[union-attr]
        place = ("correlation", "rules", at)
        if not isinstance(reference.reference, str):
            faults.append(one.document.fault("a reference is a rule's name or id", *place))
            continue
        target = by_reference.get(reference.reference)
        if target is None and reference.reference in named:
            continue
        if target is None:
            hint = did_you_mean(reference.reference, named)
            faults.append(one.document.fault(f"no rule '{reference.reference}'", *place, hint=hint))
        elif isinstance(target.sigma, SigmaCorrelationRule):
            faults.append(one.document.fault("a correlation of correlations is not supported yet", *place))
        else:
            targets.append(target)
    return targets


def _correlation(one: Parsed, parts: list[tuple[str, Condition | None]], faults: list[Fault]) -> Rule | None:
    """``parts`` are the titles and conditions of the rules it refers to."""
    sigma = one.sigma
    assert isinstance(sigma, SigmaCorrelationRule)  # noqa: S101 - the caller has looked
    before = len(faults)
    document = one.document
    own = document.data["correlation"]
    if sigma.type not in CORRELATION_TYPES:
        faults.append(
            document.fault(f"correlation type '{sigma.type}' is not supported yet", "correlation", "type",
                           hint=f"supported: {', '.join(type_.name.lower() for type_ in CORRELATION_TYPES)}")
        )  # fmt: skip
    if sigma.aliases.aliases:
        faults.append(document.fault("aliases are not supported yet", "correlation", "aliases"))
    condition = own.get("condition", {})
    if not isinstance(condition, dict):
        faults.append(
            document.fault("conditions over the names of rules are not supported yet", "correlation", "condition")
        )
        return None
    distinct = condition.get("field")
    if sigma.type == SigmaCorrelationType.VALUE_COUNT and not isinstance(distinct, str):
        faults.append(document.fault("value_count counts one field", "correlation", "condition", "field"))
    holds = _bounds(document, condition, faults)
    is_temporal = sigma.type == SigmaCorrelationType.TEMPORAL
    if is_temporal and len(parts) < 2:
        faults.append(document.fault("temporal wants two rules or more", "correlation", "rules"))
    if is_temporal and not holds:
        holds = {"gte": len(parts)}
    if sigma.timespan.seconds > _LONGEST_SECONDS:
        faults.append(document.fault("timespan is longer than ten years", "correlation", "timespan"))
        return None
    timing = _timing(one, timedelta(seconds=sigma.timespan.seconds), faults)
    known = [(title, part) for title, part in parts if part is not None]
    if len(faults) > before or not known or len(known) < len(parts) or timing is None:
        return None
    when: Condition = known[0][1] if len(known) == 1 else {"any": [part for _, part in known]}
    counted = distinct if sigma.type == SigmaCorrelationType.VALUE_COUNT else None
    rule = _rule(one, when, tuple(sigma.group_by or ()), counted, timing, holds)
    if document.data.get("custodes"):
        baseline, sieve = read_baseline(document, faults), read_sieve(document, counted, faults)
        rule = replace(rule, baseline=baseline, sieve=sieve)
    if len(faults) > before:
        return None
    return replace(rule, parts=tuple(known)) if is_temporal else rule


def _bounds(document: Document, condition: dict[str, Any], faults: list[Fault]) -> dict[str, int]:
    """Sigma's operators on a count, and their bounds."""
    holds: dict[str, int] = {}
    for operator in OPERATORS:
        if operator in condition:
            bound = condition[operator]
            if not isinstance(bound, int) or isinstance(bound, bool) or bound < 0:
                faults.append(
                    document.fault(f"'{operator}' wants a whole number", "correlation", "condition", operator)
                )
            else:
                holds[operator] = bound
    return holds


def _detection(one: Parsed, faults: list[Fault]) -> Condition | None:
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
    probe = _rule(one, when, (), None, _Timing(timedelta(hours=1), timedelta(hours=1), timedelta(0)), {"gte": 1})
    return when if _runs(probe, one, faults) else None


def _single(one: Parsed, when: Condition, faults: list[Fault]) -> Rule | None:
    """A detection no correlation refers to: one event is enough, findings an actor an hour."""
    timing = _timing(one, timedelta(hours=1), faults)
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
    return replace(_rule(one, when, ("actor",), None, timing, {"gte": 1}), sieve=sieve)


@dataclass(frozen=True)
class _Timing:
    timespan: timedelta
    resolution: timedelta
    keep_open: timedelta


def _timing(one: Parsed, timespan: timedelta, faults: list[Fault]) -> _Timing | None:
    """The rule's spans, with what its ``custodes:`` key says of them."""
    own = one.document.data.get("custodes") or {}
    spans: dict[str, timedelta] = {}
    before = len(faults)
    if not isinstance(own, dict):
        faults.append(one.document.fault("'custodes' wants a mapping", "custodes"))
        return None
    for key, value in own.items():
        if key in _PLANNED_KEYS:
            faults.append(one.document.fault(f"'{key}' is not supported yet", "custodes", key))
        elif key not in OWN_KEYS:
            hint = did_you_mean(str(key), OWN_KEYS)
            faults.append(one.document.fault(f"unknown key 'custodes.{key}'", "custodes", key, hint=hint))
        elif key in _SPANS:
            try:
                spans[key] = parse_duration(value)
            except ValueError as error:
                faults.append(one.document.fault(f"custodes.{key}: {error}", "custodes", key))
    resolution = spans.get("resolution", default_resolution(timespan))
    if "resolution" in spans and (resolution < timedelta(seconds=1) or timespan % resolution):
        faults.append(
            one.document.fault("resolution wants at least 1s and must divide the timespan", "custodes", "resolution")
        )
    if len(faults) > before:
        return None
    return _Timing(timespan, resolution, spans.get("keep_open", timespan))


def default_resolution(timespan: timedelta) -> timedelta:
    """The finest pane of at least a second that makes at most 600 of ``timespan`` and divides it."""
    total = timespan // timedelta(milliseconds=1)
    panes = next(n for n in range(min(_PANES, total // 1000), 0, -1) if total % n == 0)
    return timedelta(milliseconds=total // panes)


def _rule(
    one: Parsed,
    when: Condition,
    group_by: tuple[str, ...],
    distinct: str | None,
    timing: _Timing,
    holds: dict[str, int],
) -> Rule:
    level = str(one.sigma.level).lower() if one.sigma.level else "medium"
    own = one.document.data.get("custodes") or {}
    return Rule(
        id=one.id,
        title=one.sigma.title or one.id,
        level=level if level in LEVELS else "medium",
        description=one.sigma.description or "",
        group_by=group_by,
        distinct=distinct,
        timespan=timing.timespan,
        resolution=timing.resolution,
        keep_open=timing.keep_open,
        holds=holds,
        when=when,
        file=one.document.file,
        line=one.document.line,
        false_positives=tuple(str(text).strip() for text in one.sigma.falsepositives or ()),
        references=tuple(str(link) for link in one.sigma.references or ()),
        tuning=str(own.get("tuning", "")).strip(),
        runbook=own.get("runbook"),
    )


def _runs(rule: Rule, one: Parsed, faults: list[Fault]) -> bool:
    """Whether the engine takes the rule: it alone knows its regular expressions and paths."""
    try:
        Engine(build_plan([rule], Mapping({"time": ["time"], "actor": ["actor"]})))
    except ValueError as error:
        problem = str(error).removeprefix(f"rule '{rule.id}': ")
        named = problem.split("'")[1] if problem.startswith("field '") else None
        place = field_place(one.document, named) if named else ()
        faults.append(one.document.fault(problem, *place))
        return False
    return True
