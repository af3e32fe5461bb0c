"""Parsing of Sigma rules with pySigma. A parsed rule keeps its document, for the locations of faults."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from sigma.correlations import SigmaCorrelationRule
from sigma.exceptions import SigmaError, SigmaRuleLocation
from sigma.filters import SigmaFilter
from sigma.policy import SigmaPolicy
from sigma.policy.regex_engine import RegexEngine, RegexPattern
from sigma.rule import SigmaLogSource, SigmaRule

from custodes.config import Document, Fault
from custodes.rules.keys import OPERATORS
from custodes.rules.locate import place_of
from custodes.rules.metadata import id_of, read_metadata
from custodes.rules.numbers import with_exact_numbers
from custodes.rules.shape import shape_faults, shape_warnings


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


_LONGEST_CAUSE = 200
_POLICY = SigmaPolicy(regex_engine=_LenientRegex())


@dataclass
class ParsedRule:
    """A rule as parsed by pySigma, with its document."""

    sigma: SigmaRule | SigmaCorrelationRule
    document: Document

    @property
    def id(self) -> str:
        return str(id_of(self.document) or self.sigma.name or self.sigma.title)

    @property
    def references(self) -> set[str]:
        """The names by which other rules refer to the rule."""
        return {id_of(self.document) or "", str(self.sigma.name or ""), self.id} - {""}

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
    def logsource(self) -> SigmaLogSource | None:
        """The log source of a detection."""
        return self.sigma.logsource if isinstance(self.sigma, SigmaRule) else None

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


@dataclass
class ParsedFilter:
    """A filter as parsed by pySigma, with its document."""

    sigma: SigmaFilter
    document: Document


@dataclass
class ParsedDocuments:
    """The documents that can be parsed, and warnings about them."""

    rules: list[ParsedRule] = field(default_factory=list)
    filters: list[ParsedFilter] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)


def parse_documents(documents: Iterable[Document]) -> tuple[ParsedDocuments, list[Fault]]:
    """Parses documents with pySigma. Returns those without a fault."""
    parsed = ParsedDocuments()
    faults: list[Fault] = []
    for document in documents:
        if shape := shape_faults(document):
            faults += shape
            continue
        cleaned, warnings = read_metadata(document)
        cleaned |= {key: with_exact_numbers(cleaned[key]) for key in ("detection", "filter") if key in cleaned}
        parsed.warnings += [*warnings, *shape_warnings(document)]
        result, document_faults = _parse(document, cleaned)
        faults += document_faults
        if isinstance(result, SigmaFilter):
            parsed.filters.append(ParsedFilter(result, document))
        elif result is not None:
            parsed.rules.append(ParsedRule(result, document))
    return parsed, faults


def _parse(
    document: Document, data: dict[str, Any]
) -> tuple[SigmaRule | SigmaCorrelationRule | SigmaFilter | None, list[Fault]]:
    """Parses one document of the right shape; ``data`` is the document without malformed metadata."""
    source = SigmaRuleLocation(Path(document.file), document.line)
    parsed: SigmaRule | SigmaCorrelationRule | SigmaFilter
    try:
        if "correlation" in data:
            parsed = SigmaCorrelationRule.from_dict(_without_range(data), True, source, policy=_POLICY)
        elif "filter" in data:
            parsed = SigmaFilter.from_dict(data, True, source, policy=_POLICY)
        else:
            parsed = SigmaRule.from_dict(data, True, source, policy=_POLICY)
    except SigmaError as error:
        return None, [sigma_fault(error, document)]
    except Exception as error:  # pySigma raises other errors for some values
        return None, [document.fault(f"not a Sigma rule: {cause_of(error)}")]
    faults = [sigma_fault(error, document) for error in parsed.errors]
    return None if faults else parsed, faults


def _without_range(data: dict[str, Any]) -> dict[str, Any]:
    """Removes all operators but the first: Sigma allows a range (``gt`` with ``lte``), pySigma parses one operator."""
    correlation = data["correlation"]
    condition = correlation.get("condition") if isinstance(correlation, dict) else None
    if not isinstance(condition, dict):
        return data
    operators = [op for op in OPERATORS if op in condition]
    shown = {key: value for key, value in condition.items() if key not in operators[1:]}
    return {**data, "correlation": {**correlation, "condition": shown}}


def sigma_fault(error: SigmaError, document: Document) -> Fault:
    """Returns pySigma's error as a fault at its place in the document."""
    message = error.args[0] if error.args else type(error).__name__
    return document.fault(str(message).rstrip("."), *place_of(error, document))


def cause_of(error: Exception) -> str:
    """Returns an unexpected error of pySigma in one line."""
    text = f"{type(error).__name__}: {error}".rstrip(": ").partition("\n")[0]
    return text if len(text) <= _LONGEST_CAUSE else f"{text[:_LONGEST_CAUSE]}…"
