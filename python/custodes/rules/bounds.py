"""Bounds of a correlation's condition: Sigma's operators with their numbers, and whether any value meets them all."""

from __future__ import annotations

from math import inf, nextafter

from custodes.config import Document, Fault
from custodes.rules.keys import OPERATORS


def read_bounds(document: Document, *, whole: bool, most: int | None) -> tuple[dict[str, float], list[Fault]]:
    """Returns the operators of a condition with their bounds.

    ``whole`` says that the value is a count: a whole number from 1, since a group without events has no value. ``most``
    is the largest possible count; ``None`` is no limit.
    """
    condition = document.data["correlation"].get("condition", {})
    holds: dict[str, float] = {}
    faults = []
    for operator in OPERATORS:
        if operator not in condition:
            continue
        bound = condition[operator]
        is_whole = isinstance(bound, int) and not isinstance(bound, bool)
        if (is_whole and bound >= 0) or (not whole and (is_whole or isinstance(bound, float))):
            holds[operator] = bound
        else:
            problem = f"'{operator}' must be {'a whole number' if whole else 'a number'}"
            faults.append(document.fault(problem, "correlation", "condition", operator))
    if not faults and not _is_possible(holds, whole=whole, most=most):
        limit = f", which is at most {most}" if most is not None else ""
        bounds = " and ".join(f"{operator} {bound}" for operator, bound in holds.items())
        problem = f"the condition can never hold: no {'count' if whole else 'value'} is {bounds}{limit}"
        faults.append(document.fault(problem, "correlation", "condition", next(iter(holds))))
    return holds, faults


def _is_possible(holds: dict[str, float], *, whole: bool, most: int | None) -> bool:
    """Returns whether some value meets all bounds."""
    low, high = (1.0, inf if most is None else float(most)) if whole else (-inf, inf)

    def above(bound: float) -> float:
        return bound + 1 if whole else nextafter(bound, inf)

    def below(bound: float) -> float:
        return bound - 1 if whole else nextafter(bound, -inf)

    low = max(low, holds.get("gte", -inf), holds.get("eq", -inf), above(holds["gt"]) if "gt" in holds else -inf)
    high = min(high, holds.get("lte", inf), holds.get("eq", inf), below(holds["lt"]) if "lt" in holds else inf)
    return low < high or (low == high and holds.get("neq") != low)
