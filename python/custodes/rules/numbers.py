"""Whole numbers of rules, exact: an identity number has more digits than a float keeps, and pySigma uses floats."""

from __future__ import annotations

from typing import Any

from sigma.types import SigmaNumber, type_map

_LARGEST_EXACT_FLOAT = 2**53


class _LongInteger(int):
    """A whole number that a float may not represent."""


class _ExactNumber(SigmaNumber):
    """A number with all its digits."""

    def __post_init__(self, init_number: Any) -> None:
        self.number = int(init_number)


# pySigma chooses the class of a value by its type; no value of another rule has this type.
type_map[_LongInteger] = _ExactNumber


def with_exact_numbers(value: Any) -> Any:
    """Returns a part of a detection in which pySigma keeps all digits of whole numbers."""
    if isinstance(value, dict):
        return {key: with_exact_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_exact_numbers(inner) for inner in value]
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return _LongInteger(value) if is_whole and abs(value) > _LARGEST_EXACT_FLOAT else value


def as_plan(number: float) -> float | str:
    """Returns a number in the engine's terms: a text if a float may not represent it."""
    return str(number) if isinstance(number, int) and abs(number) > _LARGEST_EXACT_FLOAT else float(number)
