"""Rules that exist only to have the engine evaluate a condition or read a field."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from custodes.rules import Rule

_SECOND = timedelta(seconds=1)


def probe(name: str, when: Any = None, group_by: tuple[str, ...] = ()) -> Rule:
    """Returns a rule that fires at once; by default, every event meets its condition."""
    return Rule(
        name, name, "low", "", group_by=group_by, distinct=None, when={"all": []} if when is None else when,
        timespan=_SECOND, resolution=_SECOND, keep_open=_SECOND, holds={"gte": 1}, file="", line=0,
    )  # fmt: skip
