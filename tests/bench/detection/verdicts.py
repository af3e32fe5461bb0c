"""What findings make of insiders."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from custodes.demo.half_year.insiders import Deed
from custodes.findings import Finding

DAY = 86_400_000_000
"""Microseconds."""
TOLD = ("medium", "high", "critical")
"""Levels that somebody is told of."""
POINTS = {"informational": 0, "low": 10, "medium": 30, "high": 60, "critical": 100}
HALF_LIFE_DAYS = 30


def found_by(deed: Deed, findings: Sequence[Finding]) -> list[Finding]:
    """The findings of what somebody did: of one of its groups, and at its time."""
    first, last = min(deed.times), max(deed.times)
    return [
        one
        for one in findings
        if any(group.items() <= one.group.items() for group in deed.groups)
        and first <= one.held_until
        and one.opened_at <= last + DAY
    ]


def taken(deed: Deed, findings: Sequence[Finding]) -> int:
    """Records that were gone when it was found."""
    opened = min(one.opened_at for one in findings)
    return sum(time <= opened for time in deed.times)


def risk(findings: Sequence[Finding]) -> list[str]:
    """Actors by the most risk they ever had: points for each finding, which fade."""
    by_actor: dict[str, list[Finding]] = defaultdict(list)
    for one in findings:
        if "actor" in one.group:
            by_actor[one.group["actor"]].append(one)
    most: dict[str, float] = {}
    for actor, theirs in by_actor.items():
        score, last = 0.0, 0
        for one in sorted(theirs, key=lambda one: one.opened_at):
            score *= 0.5 ** ((one.opened_at - last) / DAY / HALF_LIFE_DAYS)
            score, last = score + POINTS[one.level] * min(one.times_threshold, 4.0), one.opened_at
            most[actor] = max(most.get(actor, 0.0), score)
    return sorted(most, key=lambda actor: -most[actor])
