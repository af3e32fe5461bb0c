"""Sigma detections, compiled to the engine's conditions."""

from __future__ import annotations

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
    SigmaNull,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaRegularExpressionFlag,
    SigmaString,
    SpecialChars,
)

Condition = dict[str, Any]

_COMPARISONS = {
    CompareOperators.LT: "lt",
    CompareOperators.LTE: "lte",
    CompareOperators.GT: "gt",
    CompareOperators.GTE: "gte",
}


class UnsupportedError(Exception):
    """A construct of Sigma the engine cannot run. ``field`` is where in the detection it stands."""

    def __init__(self, message: str, field: str | None = None) -> None:
        self.field = field
        super().__init__(message)


def compile_condition(node: Any) -> Condition:
    """Compiles pySigma's condition tree. Raises :class:`UnsupportedError` rather than pass over anything."""
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
            raise UnsupportedError("keywords (values without a field) are not supported; name the field")
        case _:
            raise UnsupportedError(f"{type(node).__name__} is not supported")


def _field(field: str, value: Any) -> Condition:
    if isinstance(value, SigmaExpansion):
        return {"any": [_field(field, one) for one in value.values]}
    return {"field": {"name": field, "test": _test(field, value)}}


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
            return {_COMPARISONS[value.op]: float(value.number.number)}
        case SigmaExists():
            return {"exists": bool(value)}
        case SigmaNull():
            return "null"
        case SigmaBool():
            return {"bool": bool(value)}
        case SigmaNumber() if type(value) is SigmaNumber:
            return {"number": float(value.number)}
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
                raise UnsupportedError(f"field '{field}': placeholders are not supported", field)
    return parts
