"""Compilation of Sigma detections to the engine's conditions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionNOT,
    ConditionOR,
    ConditionValueExpression,
)
from sigma.types import (
    CompareOperators,
    SigmaBool,
    SigmaCasedString,
    SigmaCIDRExpression,
    SigmaCompareExpression,
    SigmaExists,
    SigmaExpansion,
    SigmaFieldReference,
    SigmaNull,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaRegularExpressionFlag,
    SigmaString,
    SigmaTimestampPart,
    SpecialChars,
)

from custodes.rules.numbers import as_plan

Condition = dict[str, Any]

KEYWORD = "keyword "
"""Prefix of the names of derived fields for keywords; the pattern follows."""
TIME_PART = "part "
"""Prefix of the names of derived fields for parts of times that are compared; the part and the field follow."""
_OF = " of "
_PLACES = {(False, False): "whole", (True, False): "start", (False, True): "end", (True, True): "anywhere"}
"""Position of a referenced value in the field, by pySigma's ``starts_with`` and ``ends_with``."""
_FLAGS = {
    SigmaRegularExpressionFlag.IGNORECASE: "i",
    SigmaRegularExpressionFlag.MULTILINE: "m",
    SigmaRegularExpressionFlag.DOTALL: "s",
}

_COMPARISONS = {
    CompareOperators.LT: "lt",
    CompareOperators.LTE: "lte",
    CompareOperators.GT: "gt",
    CompareOperators.GTE: "gte",
}


class UnsupportedError(Exception):
    """A construct of Sigma that the engine cannot run. ``field`` is its place in the detection."""

    def __init__(self, message: str, field: str | None = None) -> None:
        self.field = field
        super().__init__(message)


def compile_condition(node: Any) -> Condition:
    """Compiles pySigma's condition tree. Raises :class:`UnsupportedError` for any construct that cannot be compiled."""
    match node:
        case ConditionAND():
            return {"all": [compile_condition(part) for part in node.args]}
        case ConditionOR():
            return {"any": [compile_condition(part) for part in node.args]}
        case ConditionNOT():
            return {"not": compile_condition(node.args[0])}
        case ConditionFieldEqualsValueExpression():
            return _field(node.field, node.value)
        case ConditionValueExpression():
            return _keyword(node.value)
        case _:
            raise UnsupportedError(f"{type(node).__name__} is not supported")


def _field(field: str, value: Any) -> Condition:
    if isinstance(value, SigmaExpansion):
        return {"any": [_field(field, one) for one in value.values]}
    if isinstance(value, SigmaCompareExpression) and isinstance(value.number, SigmaTimestampPart):
        part = value.number.timestamp_part.name.lower()
        return {"field": {"name": f"{TIME_PART}{part}{_OF}{field}", "test": _test(field, value)}}
    return {"field": {"name": field, "test": _test(field, value)}}


def _keyword(value: Any) -> Condition:
    """Compiles a value that can be anywhere in the record: a derived field, named by its pattern."""
    match value:
        case SigmaExpansion():
            return {"any": [_keyword(one) for one in value.values]}
        case SigmaString():
            cased = isinstance(value, SigmaCasedString)
            patterns = {"any_run": ".*", "any_one": "."}
            parts = [patterns[p] if isinstance(p, str) else regex_literal(p["literal"]) for p in _parts("", value)]
            pattern = ("(?s)" if cased else "(?is)") + "".join(parts)
        case SigmaRegularExpression():
            pattern = f"(?{''.join(sorted(_FLAGS[flag] for flag in value.flags or ()))}){value.regexp}".replace(
                "(?)", ""
            )
        case SigmaNumber():
            pattern = rf"\b{regex_literal(str(value.number))}\b"
        case _:
            kind = type(value).__name__.removeprefix("Sigma")
            raise UnsupportedError(f"a keyword that is {kind} is not supported")
    return {"field": {"name": KEYWORD + pattern, "test": {"bool": True}}}


def field_of(name: str) -> str | None:
    """Returns the field that a condition's field stands for; ``None`` for a keyword, which can be in any field."""
    if name.startswith(KEYWORD):
        return None
    return name.removeprefix(TIME_PART).partition(_OF)[2] if name.startswith(TIME_PART) else name


def derivations_of(condition: Condition) -> Iterator[tuple[str, Condition]]:
    """Yields the derived fields that only a condition defines: those of keywords, and compared parts of times."""
    if "field" in condition:
        name = str(condition["field"]["name"])
        if name.startswith(KEYWORD):
            yield name, {"from": [], "by": {"anywhere": name.removeprefix(KEYWORD)}}
        elif name.startswith(TIME_PART):
            part, _, field = name.removeprefix(TIME_PART).partition(_OF)
            yield name, {"from": [field], "by": {"part": part}}
    elif "not" in condition:
        yield from derivations_of(condition["not"])
    else:
        for part in condition.get("all") or condition.get("any") or []:
            yield from derivations_of(part)


def regex_literal(text: str) -> str:
    """Returns a regular expression in Rust's syntax that matches exactly this text."""
    return "".join(rf"\x{{{ord(char):x}}}" if not (char.isalnum() or char == " ") else char for char in text)


def _test(field: str, value: Any) -> Any:
    match value:
        case SigmaString():
            return {"text": {"parts": _parts(field, value), "cased": isinstance(value, SigmaCasedString)}}
        case SigmaRegularExpression():
            flags = value.flags
            return {
                "regex": {
                    "pattern": str(value.regexp),
                    "ignore_case": SigmaRegularExpressionFlag.IGNORECASE in flags,
                    "multi_line": SigmaRegularExpressionFlag.MULTILINE in flags,
                    "dot_all": SigmaRegularExpressionFlag.DOTALL in flags,
                }
            }
        case SigmaCIDRExpression():
            return {"cidr": value.cidr}
        case SigmaCompareExpression() if value.op in _COMPARISONS:
            return {_COMPARISONS[value.op]: as_plan(value.number.number)}
        case SigmaFieldReference():
            return {"same": {"other": value.field, "place": _PLACES[value.starts_with, value.ends_with]}}
        case SigmaTimestampPart():
            return {"part": [value.timestamp_part.name.lower(), value.number]}
        case SigmaExists():
            return {"exists": bool(value)}
        case _:
            return _plain_test(field, value)


def _plain_test(field: str, value: Any) -> Any:
    match value:
        case SigmaNull():
            return "null"
        case SigmaBool():
            return {"bool": bool(value)}
        case SigmaNumber() if not isinstance(value, SigmaTimestampPart):
            return {"number": as_plan(value.number)}
        case _:
            kind = type(value).__name__.removeprefix("Sigma")
            raise UnsupportedError(f"field '{field}': {kind} is not supported", field)


def _parts(field: str, value: SigmaString) -> list[Any]:
    parts: list[Any] = []
    for part in value.s:
        match part:
            case str():
                parts.append({"literal": part})
            case SpecialChars.WILDCARD_MULTI:
                parts.append("any_run")
            case SpecialChars.WILDCARD_SINGLE:
                parts.append("any_one")
            case _:
                hint = "a pipeline among the rules can give it values (value_placeholders)"
                raise UnsupportedError(
                    f"field '{field}': the placeholder %{part.name}% stands for nothing; {hint}", field
                )
    return parts
