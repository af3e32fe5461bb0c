"""Where findings fall short of what happened: what was forgotten, or not listed, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from custodes.findings.model import rfc3339


@dataclass(frozen=True)
class Shortfall:
    """A stretch of time in which not everything about a rule was remembered, or told."""

    kind: Literal["memory", "storm"]
    """``memory``: windows outgrew it. ``storm``: there were more findings than the rule may have open."""
    rule_id: str
    since: int
    """Microseconds since the epoch."""
    until: int
    """As far as is known."""
    groups: int
    """``memory``: how many would start at nothing if they came again; each such time a count may be too low, by no more
    than half the threshold. ``storm``: how many had no finding, at the worst moment."""
    values: int
    """``memory``: how many would count again if they were seen again; a distinct count may be too high by so many."""

    def as_dict(self) -> dict[str, Any]:
        """The public fields."""
        return vars(self) | {"since": rfc3339(self.since), "until": rfc3339(self.until)}
