"""Shortfalls: periods in which a rule lost state to eviction, or had findings suppressed or refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from custodes.findings.model import rfc3339


@dataclass(frozen=True)
class Shortfall:
    """A period in which the counts or findings of a rule are incomplete."""

    kind: Literal["memory", "storm", "refused"]
    """``memory``: window state exceeded its memory limit. ``storm``: the rule exceeded its limit of open findings.
    ``refused``: the database refused a finding."""
    rule_id: str
    since: int
    """Microseconds since the epoch."""
    until: int
    """Latest known end."""
    groups: int
    """``memory``: number of evicted groups, which restart at zero if they return; a count may then be too low by at
    most half of the threshold. ``storm``: largest number of groups without a finding. ``refused``: 1."""
    values: int
    """``memory``: number of evicted values, which are counted again if they return; a distinct count may be too high by
    that number."""

    def as_dict(self) -> dict[str, Any]:
        """Returns the public fields."""
        return vars(self) | {"since": rfc3339(self.since), "until": rfc3339(self.until)}
