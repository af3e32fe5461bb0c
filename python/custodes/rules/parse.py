"""Parsing Sigma rule files with pySigma, into rules that remember their document."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sigma.collection import SigmaCollection
from sigma.correlations import SigmaCorrelationRule
from sigma.exceptions import SigmaError, SigmaRuleLocation
from sigma.filters import SigmaFilter
from sigma.policy import SigmaPolicy
from sigma.policy.regex_engine import RegexEngine, RegexPattern
from sigma.rule import SigmaRule

from custodes.config import Document, Fault
from custodes.rules.locate import place_of

OPERATORS = ("gte", "gt", "lte", "lt", "eq", "neq")
"""Sigma's operators on a count."""


class _LenientRegex(RegexEngine):
    """pySigma's own matching goes through Python's ``re``; a rule's pattern that ``re`` refuses is let through,
    because the engine that will run it is the one to judge it: the compiler asks it."""

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


@dataclass
class ParsedRule:
    """A rule as pySigma read it, with the document it came from."""

    sigma: SigmaRule | SigmaCorrelationRule
    document: Document

    @property
    def id(self) -> str:
        return str(self.sigma.id or self.sigma.name or self.sigma.title)

    @property
    def title(self) -> str:
        return str(self.sigma.title or self.sigma.name or self.sigma.id)

    @property
    def level(self) -> str:
        """``medium`` where it is not said."""
        return str(self.sigma.level).lower() if self.sigma.level else "medium"

    @property
    def generates(self) -> bool:
        """Whether the rule fires by itself even where a correlation refers to it."""
        return bool(self.document.data.get("generate"))

    @property
    def has_generated(self) -> bool:
        """Whether the rules it refers to fire by themselves nevertheless."""
        return isinstance(self.sigma, SigmaCorrelationRule) and self.sigma.generate


def is_test_file(path: Path) -> bool:
    """Whether a file has tests of rules, by its name: no rules are loaded from it."""
    return path.name.endswith((".test.yml", ".test.yaml"))


def rule_files(paths: Iterable[Path], faults: list[Fault]) -> Iterator[Path]:
    """The rule files among and below ``paths``; what can't be read goes to ``faults``."""
    for path in paths:
        try:
            if path.is_dir():
                found = sorted(p for p in _walk(path) if p.suffix in {".yml", ".yaml"} and not is_test_file(p))
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


def is_pipeline(document: Document) -> bool:
    """Whether a document of a rule file is a processing pipeline rather than a rule."""
    return isinstance(document.data, dict) and "transformations" in document.data


def parse(documents: list[Document], faults: list[Fault]) -> tuple[list[ParsedRule], list[SigmaFilter]]:
    """The rules and filters that pySigma can read; what it can't goes to ``faults``."""
    parsed: list[ParsedRule] = []
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
                faults.extend(sigma_fault(error, document) for error in sigma_filter.errors)
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
            faults.append(sigma_fault(error, document))
            continue
        except Exception as error:  # pySigma trips over some values of the wrong type
            faults.append(document.fault(f"not a Sigma rule: {type(error).__name__}: {error}"))
            continue
        if rule.errors:
            faults.extend(sigma_fault(error, document) for error in rule.errors)
        else:
            parsed.append(ParsedRule(rule, document))
    return parsed, filters


def _without_range(data: dict[str, Any]) -> dict[str, Any]:
    """Sigma allows a range (``gt`` with ``lte``); pySigma reads one operator, so it is shown only the first."""
    correlation = data["correlation"]
    condition = correlation.get("condition") if isinstance(correlation, dict) else None
    if not isinstance(condition, dict):
        return data
    operators = [op for op in OPERATORS if op in condition]
    shown = {key: value for key, value in condition.items() if key not in operators[1:]}
    return {**data, "correlation": {**correlation, "condition": shown}}


def apply_filters(parsed: list[ParsedRule], filters: list[SigmaFilter]) -> None:
    """Puts each filter into the rules it names."""
    if filters:
        collection = SigmaCollection([p.sigma for p in parsed], resolve_references=False)
        collection.apply_filters(filters)
        for one, filtered in zip(parsed, collection.rules, strict=True):
            one.sigma = filtered


def sigma_fault(error: SigmaError, document: Document) -> Fault:
    """pySigma's error at its place in the document."""
    message = error.args[0] if error.args else type(error).__name__
    return document.fault(str(message).rstrip("."), *place_of(error, document))


def names_of(documents: list[Document]) -> set[str]:
    """Every name and id given, also by rules that have faults: a reference to one of these is not another fault."""
    data = [document.data for document in documents if isinstance(document.data, dict)]
    return {str(rule[key]) for rule in data for key in ("id", "name") if rule.get(key)}
