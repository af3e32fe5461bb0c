"""Shape of a correlation: its keys, their types, and parts without effect."""

from __future__ import annotations

from math import isfinite

from sigma.correlations import SigmaCorrelationType

from custodes.config import Fault
from custodes.config.faults import did_you_mean
from custodes.rules.document_value import (
    DocumentValue,
    boolean_faults,
    key_faults,
    mapping_faults,
    text_faults,
    texts_faults,
)
from custodes.rules.keys import CONDITION, CORRELATION, OPERATORS

TYPES = tuple(type_.name.lower() for type_ in SigmaCorrelationType)
"""The correlation types."""
_TEMPORAL = ("temporal", "temporal_ordered")
_LARGEST = 2**53
"""Bounds above this are not exact numbers in every part of the system."""


def correlation_faults(node: DocumentValue) -> list[Fault]:
    """Checks the keys of a correlation."""
    if faults := mapping_faults(node, CORRELATION):
        return faults
    faults = _type_faults(node)
    has_expression = isinstance(node.value.get("condition"), str)
    if node.has("rules"):
        faults += texts_faults(node.child("rules"))
    elif not has_expression:
        faults.append(node.fault("the correlation names no rules"))
    if node.has("group-by"):
        faults += texts_faults(node.child("group-by"))
    if node.has("generate"):
        faults += boolean_faults(node.child("generate"))
    if node.has("timespan"):
        faults += text_faults(node.child("timespan"))
    else:
        faults.append(node.fault("the correlation has no timespan"))
    if node.has("aliases"):
        faults += _aliases_faults(node, node.child("aliases"))
    if node.has("condition"):
        faults += _condition_faults(node.child("condition"), str(node.value.get("type")).lower())
    elif str(node.value.get("type")).lower() not in _TEMPORAL:
        faults.append(node.fault("the correlation has no condition"))
    return faults


def _type_faults(node: DocumentValue) -> list[Fault]:
    if not node.has("type"):
        return [node.fault("the correlation has no type", f"known: {', '.join(TYPES)}")]
    type_ = node.child("type")
    if faults := text_faults(type_):
        return faults
    if type_.value.lower() in TYPES:
        return []
    return [type_.fault(f"unknown correlation type '{type_.value}'", did_you_mean(type_.value, TYPES))]


def _aliases_faults(node: DocumentValue, aliases: DocumentValue) -> list[Fault]:
    if faults := mapping_faults(aliases):
        return faults
    group_by = node.value.get("group-by")
    grouped = group_by if isinstance(group_by, list) else [group_by]
    for name, by_rule in aliases.children():
        if name not in grouped:
            faults.append(by_rule.fault(f"the alias '{name}' has no effect: it is not in 'group-by'"))
        wrong = mapping_faults(by_rule)
        faults += wrong or [fault for _, field in by_rule.children() for fault in text_faults(field)]
    return faults


def _condition_faults(node: DocumentValue, type_: str) -> list[Fault]:
    if isinstance(node.value, str):
        return text_faults(node)
    if not isinstance(node.value, dict):
        return [node.fault("'correlation.condition' must be a mapping or an expression")]
    faults = key_faults(node, CONDITION)
    operators = [key for key in OPERATORS if key in node.value]
    if not operators and not faults:
        faults.append(node.fault("the condition has no bound", f"one of {', '.join(OPERATORS)}"))
    faults += [node.child(key).fault(f"'{key}' must be a number") for key in operators if not _is_bound(node, key)]
    if node.has("field"):
        if type_.startswith("value_"):
            faults += texts_faults(node.child("field"))
        elif type_ in TYPES:
            hint = "value_count counts the different values of a field"
            faults.append(node.child("field").fault(f"'field' has no effect: {type_} counts no values", hint))
    if node.has("percentile") and type_ in TYPES and type_ != "value_percentile":
        faults.append(node.child("percentile").fault(f"'percentile' has no effect in {type_}"))
    return faults


def _is_bound(node: DocumentValue, key: str) -> bool:
    bound = node.value[key]
    return isinstance(bound, int | float) and isfinite(bound) and abs(bound) <= _LARGEST
