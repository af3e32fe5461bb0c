"""Parsing of Sigma rules with pySigma. A parsed rule keeps its document, for the locations of faults."""

from __future__ import annotations

import re
from collections.abc import Iterable
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
"""Sigma's operators for counts."""


class _LenientRegex(RegexEngine):
    """Accepts patterns that Python's ``re`` rejects: the engine runs them, and validates them after compilation."""

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
    """A rule as parsed by pySigma, with its document."""

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
        """The level; ``medium`` by default."""
        return str(self.sigma.level).lower() if self.sigma.level else "medium"

    @property
    def is_correlation(self) -> bool:
        return isinstance(self.sigma, SigmaCorrelationRule)

    @property
    def generates(self) -> bool:
        """Whether the rule has findings of its own even if a correlation refers to it."""
        return bool(self.document.data.get("generate"))

    @property
    def has_generated(self) -> bool:
        """Whether the rules that it refers to have findings of their own."""
        return isinstance(self.sigma, SigmaCorrelationRule) and self.sigma.generate


def is_pipeline(document: Document) -> bool:
    """Returns whether a document of a rule file is a processing pipeline rather than a rule."""
    return isinstance(document.data, dict) and "transformations" in document.data


def parse_documents(documents: Iterable[Document]) -> tuple[list[ParsedRule], list[Fault]]:
    """Parses documents with pySigma and applies the filters among them. Returns the rules that can be parsed."""
    parsed: list[ParsedRule] = []
    filters: list[SigmaFilter] = []
    faults: list[Fault] = []
    for document in documents:
        result, document_faults = _parse(document)
        faults += document_faults
        if isinstance(result, SigmaFilter):
            filters.append(result)
        elif result is not None:
            parsed.append(ParsedRule(result, document))
    return _with_filters(parsed, filters), faults


def _parse(document: Document) -> tuple[SigmaRule | SigmaCorrelationRule | SigmaFilter | None, list[Fault]]:
    """Parses one document. A filter with faults is returned; a rule with faults is not."""
    data = document.data
    if not isinstance(data, dict):
        return None, [document.fault("a rule is a YAML mapping")]
    source = SigmaRuleLocation(Path(document.file), document.line)
    parsed: SigmaRule | SigmaCorrelationRule | SigmaFilter
    try:
        if "correlation" in data:
            parsed = SigmaCorrelationRule.from_dict(_without_range(data), True, source, policy=_POLICY)
        elif "filter" in data:
            parsed = SigmaFilter.from_dict(data, True, source, policy=_POLICY)
        elif "action" in data:
            hint = "write each rule out, or use a Sigma filter"
            return None, [document.fault("'action' documents are Sigma's old collections", "action", hint=hint)]
        else:
            parsed = SigmaRule.from_dict(data, True, source, policy=_POLICY)
    except SigmaError as error:
        return None, [sigma_fault(error, document)]
    except Exception as error:  # pySigma raises other errors for some values of the wrong type
        return None, [document.fault(f"not a Sigma rule: {type(error).__name__}: {error}")]
    faults = [sigma_fault(error, document) for error in parsed.errors]
    return parsed if not faults or isinstance(parsed, SigmaFilter) else None, faults


def _without_range(data: dict[str, Any]) -> dict[str, Any]:
    """Removes all operators but the first: Sigma allows a range (``gt`` with ``lte``), pySigma parses one operator."""
    correlation = data["correlation"]
    condition = correlation.get("condition") if isinstance(correlation, dict) else None
    if not isinstance(condition, dict):
        return data
    operators = [op for op in OPERATORS if op in condition]
    shown = {key: value for key, value in condition.items() if key not in operators[1:]}
    return {**data, "correlation": {**correlation, "condition": shown}}


def _with_filters(parsed: list[ParsedRule], filters: list[SigmaFilter]) -> list[ParsedRule]:
    """Returns the rules with each filter applied to the rules that it names."""
    if not filters:
        return parsed
    collection = SigmaCollection([rule.sigma for rule in parsed], resolve_references=False)
    collection.apply_filters(filters)
    return [ParsedRule(filtered, rule.document) for rule, filtered in zip(parsed, collection.rules, strict=True)]


def sigma_fault(error: SigmaError, document: Document) -> Fault:
    """Returns pySigma's error as a fault at its place in the document."""
    message = error.args[0] if error.args else type(error).__name__
    return document.fault(str(message).rstrip("."), *place_of(error, document))
