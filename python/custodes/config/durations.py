"""Durations as text: ``500ms``, ``10s``, ``5m``, ``1h``, ``28d``, ``2w``."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PATTERN = re.compile(r"([0-9]{1,30})(ms|[smhdw])")


def parse_duration(text: str) -> timedelta:
    """Reads a whole number and a unit; raises ``ValueError`` with the expected form."""
    match = _PATTERN.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"'{text}' is not a duration; write a whole number and a unit, like 500ms, 10s, 5m, 1h, 28d")
    try:
        return timedelta(milliseconds=int(match[1]) * _UNITS[match[2]])
    except OverflowError as error:
        raise ValueError(f"'{text}' is too long") from error


def format_duration(span: timedelta) -> str:
    """Returns the shortest text that :func:`parse_duration` reads back."""
    millis = span // timedelta(milliseconds=1)
    if millis == 0:
        return "0s"
    unit, size = next((u, s) for u, s in reversed(_UNITS.items()) if millis % s == 0)
    return f"{millis // size}{unit}"
