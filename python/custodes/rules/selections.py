"""Checks of a detection's selections before pySigma reads them: types, empty values, and tests that nothing passes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from math import inf, nextafter
from typing import Any

from custodes.config import Fault
from custodes.rules.document_value import DocumentValue, is_plain, is_text, mapping_faults, texts_faults

TIME_PARTS = {"minute": (0, 59), "hour": (0, 23), "day": (1, 31), "week": (1, 53), "month": (1, 12), "year": (1, 9999)}
"""Smallest and largest number of each part of a time."""
_COMPARISONS = ("lt", "lte", "gt", "gte")
_WITHIN = ("contains", "startswith", "endswith", "re", "base64", "base64offset", "fieldref")
"""Modifiers under which an empty text has no sensible meaning."""
_NEVER_EMPTY = ("time", "actor")
"""Fields without which a record is rejected."""
_NOT_SELECTIONS = ("condition", "rules")


def detection_faults(node: DocumentValue) -> list[Fault]:
    """Checks the selections and the condition of a detection or a filter."""
    faults = mapping_faults(node)
    if faults:
        return faults
    if node.has("condition"):
        faults += texts_faults(node.child("condition"))
    else:
        faults.append(node.fault(f"'{node.name}' has no condition"))
    if node.has("timeframe"):
        hint = "write a correlation with a timespan"
        faults.append(node.child("timeframe").fault("'timeframe' is of Sigma's old aggregations", hint))
    selections = [(key, child) for key, child in node.children() if key not in _NOT_SELECTIONS]
    if not selections:
        faults.append(node.fault(f"'{node.name}' has no selection"))
    return faults + [fault for _, child in selections for fault in _selection_faults(child)]


def unused_selections(node: DocumentValue) -> list[Fault]:
    """Returns a warning for each selection that no condition names."""
    condition = node.value["condition"]
    text = " ".join(condition if isinstance(condition, list) else [condition])
    words = set(re.findall(r"[\w*.?-]+", text))
    return [
        child.fault(f"the condition does not use '{key}'")
        for key, child in node.children()
        if key not in _NOT_SELECTIONS and "them" not in words and not any(fnmatchcase(str(key), word) for word in words)
    ]


def _selection_faults(node: DocumentValue) -> list[Fault]:
    if isinstance(node.value, dict):
        return _fields_faults(node)
    if not isinstance(node.value, list):
        return _keyword_faults(node)
    if not node.value:
        return [node.fault(f"'{node.name}' is empty")]
    faults = []
    for _, item in node.children():
        faults += _fields_faults(item) if isinstance(item.value, dict) else _keyword_faults(item)
    return faults


def _keyword_faults(node: DocumentValue) -> list[Fault]:
    if is_text(node.value) or (is_plain(node.value) and isinstance(node.value, int | float)):
        return []
    return [node.fault(f"'{node.name}' must be a mapping of fields to values, or a keyword that is not empty")]


def _fields_faults(node: DocumentValue) -> list[Fault]:
    if faults := mapping_faults(node):
        return faults
    faults = [fault for key, child in node.children() for fault in _values_faults(str(key), child)]
    return faults or _range_faults(node)


def _values_faults(key: str, node: DocumentValue) -> list[Fault]:
    """Checks the value of one field, or the values of which one has to be met."""
    name, *modifiers = key.split("|")
    values = [child for _, child in node.children()] if isinstance(node.value, list) else [node]
    if not values:
        return [node.fault(f"'{key}' is an empty list, which no event matches", "write null for an absent field")]
    faults = []
    for value in values:
        if isinstance(value.value, bytes) or not is_plain(value.value):
            faults.append(value.fault(f"'{key}' must be a text, a number, true, false or null, or a list of these"))
        elif value.value == "" and (name == "" or any(modifier in _WITHIN for modifier in modifiers)):
            faults.append(value.fault(f"'{key}' is an empty text", "write '*' for any value"))
        elif value.value == "" and name in _NEVER_EMPTY and modifiers in ([], ["cased"]):
            faults.append(value.fault(f"no event matches '{key}': '{name}' is never empty"))
        elif part := next((modifier for modifier in modifiers if modifier in TIME_PARTS), None):
            faults += _part_faults(key, part, modifiers, value)
    return faults


def _part_faults(key: str, part: str, modifiers: list[str], node: DocumentValue) -> list[Fault]:
    """Checks the number that a part of a time is compared with."""
    number = node.value
    if isinstance(number, bool) or not isinstance(number, int):
        return [node.fault(f"'{key}' must be a whole number")]
    lowest, highest = TIME_PARTS[part]
    is_possible = {
        "gte": number <= highest, "gt": number < highest, "lte": number >= lowest, "lt": number > lowest,
    }  # fmt: skip
    operator = next((modifier for modifier in modifiers if modifier in _COMPARISONS), None)
    if is_possible[operator] if operator else lowest <= number <= highest:
        return []
    return [node.fault(f"no event matches '{key}': {part} is from {lowest} to {highest}")]


def _range_faults(node: DocumentValue) -> list[Fault]:
    """Returns a fault for each field whose comparisons exclude each other."""
    ranges: dict[str, tuple[float, float]] = {}
    faults = []
    for key, child in node.children():
        name, *modifiers = str(key).split("|")
        operator = modifiers[-1] if modifiers else ""
        numbers = list(_numbers(child.value))
        if operator not in _COMPARISONS or not numbers:
            continue
        field = "|".join((name, *modifiers[:-1]))
        low, high = ranges.get(field, (-inf, inf))
        if operator.startswith("g"):
            low = max(low, nextafter(min(numbers), inf) if operator == "gt" else min(numbers))
        else:
            high = min(high, nextafter(max(numbers), -inf) if operator == "lt" else max(numbers))
        ranges[field] = (low, high)
        if low > high:
            hint = "combine two selections with 'or'" if "|" in field else None
            faults.append(child.fault(f"no event matches: the comparisons of '{field}' exclude each other", hint))
    return faults


def _numbers(value: Any) -> Iterator[float]:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, int | float) and not isinstance(item, bool):
            yield item
