"""Loading Sigma rule files: parse with pySigma, resolve references, compile, or say what is wrong and where."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, cast

from sigma.collection import SigmaCollection
from sigma.correlations import SigmaCorrelationRule, SigmaCorrelationType
from sigma.exceptions import SigmaError, SigmaRuleLocation
from sigma.filters import SigmaFilter
from sigma.policy import SigmaPolicy
from sigma.policy.regex_engine import RegexEngine, RegexPattern
from sigma.rule import SigmaRule

from custodes._core import Engine
from custodes.config import Document, Fault, FaultsError, load_documents, parse_duration
from custodes.config.faults import did_you_mean
from custodes.rules.conditions import Condition, UnsupportedError, compile_condition
from custodes.rules.locate import field_place, place_of
from custodes.rules.model import LEVELS, Rule
from custodes.rules.plan import build_plan


class _LenientRegex(RegexEngine):
    """pySigma's own matching goes through Python's ``re``; a rule's pattern that ``re`` refuses is let through,
    because the engine that will run it is the one to judge it: see :func:`_runs`."""

    def compile(self, pattern: str, flags: int = 0) -> RegexPattern:
        try:
            compiled = re.compile(pattern, flags)
        except re.error:
            compiled = re.compile("")
        return cast("RegexPattern", compiled)

    @property
    def error(self) -> type[Exception]:
        return re.error


_POLICY = SigmaPolicy(regex_engine=_LenientRegex())
_OPERATORS = ("gte", "gt", "lte", "lt", "eq", "neq")
_OWN_KEYS = ("keep_open", "resolution")
_PLANNED_KEYS = ("baseline", "reset")
_PANES = 600
"""Panes of a window unless ``resolution`` says otherwise."""


@dataclass
class _Parsed:
    """A rule as pySigma read it, with the document it came from."""

    sigma: SigmaRule | SigmaCorrelationRule
    document: Document

    @property
    def id(self) -> str:
        return str(self.sigma.id or self.sigma.name or self.sigma.title)

    @property
    def generates(self) -> bool:
        """Whether the rule fires by itself even where a correlation refers to it."""
        if isinstance(self.sigma, SigmaCorrelationRule):
            return self.sigma.generate
        return bool(self.document.data.get("generate"))


def shipped_pack() -> Iterator[Path]:
    """The rule files that come with Custodes."""
    with as_file(files("custodes.rules") / "pack") as folder:
        yield from sorted(folder.rglob("*.yml"))


def load_rules(paths: Iterable[Path]) -> list[Rule]:
    """Loads rule files and directories (``*.yml``, ``*.yaml``, recursively), in order of path.

    Raises :class:`FaultsError` with every fault found, each with file and line.
    """
    faults: list[Fault] = []
    documents: list[Document] = []
    for path in _rule_files(paths, faults):
        try:
            documents.extend(document for document in load_documents(path) if document.data is not None)
        except FaultsError as error:
            faults.extend(error.faults)
    parsed, filters = _parse(documents, faults)
    _apply_filters(parsed, filters)
    rules = _compile(parsed, _names_of(documents), faults)
    if faults:
        raise FaultsError(faults)
    return rules


def _rule_files(paths: Iterable[Path], faults: list[Fault]) -> Iterator[Path]:
    for path in paths:
        try:
            if path.is_dir():
                found = sorted(p for p in _walk(path) if p.suffix in {".yml", ".yaml"})
                if not found:
                    faults.append(Fault("no rule files (*.yml, *.yaml) in this directory", str(path)))
                yield from found
            elif path.exists():
                yield path
            else:
                faults.append(Fault("no such file or directory", str(path)))
        except OSError as error:
            faults.append(Fault(f"cannot read: {error.strerror}", error.filename or str(path)))


def _walk(folder: Path) -> Iterator[Path]:
    """All files below ``folder``. Unlike ``rglob``, a directory that can't be read is an error."""
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry)
        else:
            yield entry


def _parse(documents: list[Document], faults: list[Fault]) -> tuple[list[_Parsed], list[SigmaFilter]]:
    parsed: list[_Parsed] = []
    filters: list[SigmaFilter] = []
    for document in documents:
        data = document.data
        if not isinstance(data, dict):
            faults.append(document.fault("a rule is a YAML mapping"))
            continue
        source = SigmaRuleLocation(Path(document.file), document.line)
        rule: SigmaRule | SigmaCorrelationRule
        try:
            if "correlation" in data:
                plain = _without_range(data)
                rule = SigmaCorrelationRule.from_dict(plain, True, source, policy=_POLICY)
            elif "filter" in data:
                sigma_filter = SigmaFilter.from_dict(data, True, source, policy=_POLICY)
                filters.append(sigma_filter)
                faults.extend(_sigma_fault(error, document) for error in sigma_filter.errors)
                continue
            elif "action" in data:
                faults.append(
                    document.fault("'action' documents are Sigma's old collections", "action",
                                   hint="write each rule out, or use a Sigma filter")
                )  # fmt: skip
                continue
            else:
                rule = SigmaRule.from_dict(data, True, source, policy=_POLICY)
        except SigmaError as error:
            faults.append(_sigma_fault(error, document))
            continue
        if rule.errors:
            faults.extend(_sigma_fault(error, document) for error in rule.errors)
        else:
            parsed.append(_Parsed(rule, document))
    return parsed, filters


def _without_range(data: dict[str, Any]) -> dict[str, Any]:
    """Sigma allows a range (``gt`` with ``lte``); pySigma reads one operator, so it is shown only the first."""
    correlation = data["correlation"]
    condition = correlation.get("condition") if isinstance(correlation, dict) else None
    if not isinstance(condition, dict):
        return data
    operators = [op for op in _OPERATORS if op in condition]
    shown = {key: value for key, value in condition.items() if key not in operators[1:]}
    return {**data, "correlation": {**correlation, "condition": shown}}


def _apply_filters(parsed: list[_Parsed], filters: list[SigmaFilter]) -> None:
    if filters:
        collection = SigmaCollection([p.sigma for p in parsed], resolve_references=False)
        collection.apply_filters(filters)
        for one, filtered in zip(parsed, collection.rules, strict=True):
            one.sigma = filtered


def _sigma_fault(error: SigmaError, document: Document) -> Fault:
    message = error.args[0] if error.args else type(error).__name__
    return document.fault(str(message).rstrip("."), *place_of(error, document))


def _names_of(documents: list[Document]) -> set[str]:
    """Every name and id given, also by rules that have faults: a reference to one of these is not another fault."""
    data = [document.data for document in documents if isinstance(document.data, dict)]
    return {str(rule[key]) for rule in data for key in ("id", "name") if rule.get(key)}


def _compile(parsed: list[_Parsed], named: set[str], faults: list[Fault]) -> list[Rule]:
    before = len(faults)
    by_reference: dict[str, _Parsed] = {}
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
    correlations: list[tuple[_Parsed, list[_Parsed]]] = []
    for one in parsed:
        if isinstance(one.sigma, SigmaCorrelationRule):
            targets = _resolve(one, by_reference, named, faults)
            referred.update(target.id for target in targets)
            correlations.append((one, targets))
    conditions = {one.id: _detection(one, faults) for one in parsed if isinstance(one.sigma, SigmaRule)}
    found: dict[str, Rule | None] = {}
    for one, targets in correlations:
        found[one.id] = _correlation(one, [conditions[target.id] for target in targets], faults)
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


def _resolve(one: _Parsed, by_reference: dict[str, _Parsed], named: set[str], faults: list[Fault]) -> list[_Parsed]:
    targets = []
    for at, reference in enumerate(one.sigma.rules or []):  # type: ignore[union-attr]
        place = ("correlation", "rules", at)
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


def _correlation(one: _Parsed, parts: list[Condition | None], faults: list[Fault]) -> Rule | None:
    sigma = one.sigma
    assert isinstance(sigma, SigmaCorrelationRule)  # noqa: S101 - the caller has looked
    before = len(faults)
    document = one.document
    own = document.data["correlation"]
    if sigma.type not in (SigmaCorrelationType.EVENT_COUNT, SigmaCorrelationType.VALUE_COUNT):
        faults.append(
            document.fault(f"correlation type '{sigma.type}' is not supported yet", "correlation", "type",
                           hint="supported: event_count, value_count")
        )  # fmt: skip
    if sigma.aliases.aliases:
        faults.append(document.fault("aliases are not supported yet", "correlation", "aliases"))
    condition = own.get("condition", {})
    distinct = condition.get("field")
    if sigma.type == SigmaCorrelationType.VALUE_COUNT and not isinstance(distinct, str):
        faults.append(document.fault("value_count counts one field", "correlation", "condition", "field"))
    holds: dict[str, int] = {}
    for operator in _OPERATORS:
        if operator in condition:
            bound = condition[operator]
            if not isinstance(bound, int) or isinstance(bound, bool) or bound < 0:
                faults.append(
                    document.fault(f"'{operator}' wants a whole number", "correlation", "condition", operator)
                )
            else:
                holds[operator] = bound
    timing = _timing(one, timedelta(seconds=sigma.timespan.seconds), faults)
    if len(faults) > before or not parts or any(part is None for part in parts) or timing is None:
        return None
    when: Condition = parts[0] if len(parts) == 1 else {"any": parts}  # type: ignore[assignment]
    counted = distinct if sigma.type == SigmaCorrelationType.VALUE_COUNT else None
    return _rule(one, when, tuple(sigma.group_by or ()), counted, timing, holds)


def _detection(one: _Parsed, faults: list[Fault]) -> Condition | None:
    sigma = one.sigma
    assert isinstance(sigma, SigmaRule)  # noqa: S101 - the caller has looked
    try:
        conditions = [compile_condition(condition.parsed) for condition in sigma.detection.parsed_condition]
    except UnsupportedError as error:
        place = field_place(one.document, error.field) if error.field else ("detection",)
        faults.append(one.document.fault(str(error), *place))
        return None
    except SigmaError as error:
        faults.append(_sigma_fault(error, one.document))
        return None
    when = conditions[0] if len(conditions) == 1 else {"any": conditions}
    probe = _rule(one, when, (), None, _Timing(timedelta(hours=1), timedelta(hours=1), timedelta(0)), {"gte": 1})
    return when if _runs(probe, one, faults) else None


def _single(one: _Parsed, when: Condition, faults: list[Fault]) -> Rule | None:
    """A detection no correlation refers to: one event is enough, findings an actor an hour."""
    timing = _timing(one, timedelta(hours=1), faults)
    if timing is None:
        return None
    return _rule(one, when, ("actor",), None, timing, {"gte": 1})


@dataclass(frozen=True)
class _Timing:
    timespan: timedelta
    resolution: timedelta
    keep_open: timedelta


def _timing(one: _Parsed, timespan: timedelta, faults: list[Fault]) -> _Timing | None:
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
        elif key not in _OWN_KEYS:
            hint = did_you_mean(str(key), _OWN_KEYS)
            faults.append(one.document.fault(f"unknown key 'custodes.{key}'", "custodes", key, hint=hint))
        else:
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
    one: _Parsed,
    when: Condition,
    group_by: tuple[str, ...],
    distinct: str | None,
    timing: _Timing,
    holds: dict[str, int],
) -> Rule:
    level = str(one.sigma.level).lower() if one.sigma.level else "medium"
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
    )


def _runs(rule: Rule, one: _Parsed, faults: list[Fault]) -> bool:
    """Whether the engine takes the rule: it alone knows its regular expressions and paths."""
    try:
        Engine(build_plan([rule], {"time": ["time"], "actor": ["actor"]}))
    except ValueError as error:
        problem = str(error).removeprefix(f"rule '{rule.id}': ")
        named = problem.split("'")[1] if problem.startswith("field '") else None
        place = field_place(one.document, named) if named else ()
        faults.append(one.document.fault(problem, *place))
        return False
    return True
