"""Assigns findings to insiders."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from custodes.demo.half_year.insiders import Deed
from custodes.findings import Finding
from custodes.findings.risk import risks
from detection.features import DAY

TOLD = ("medium", "high", "critical")
"""Levels that raise an alert."""


def found_by(deed: Deed, findings: Sequence[Finding]) -> list[Finding]:
    """Returns the findings due to an insider: about one of the insider's groups, at the time of the activity."""
    first, last = min(deed.times), max(deed.times)
    return [
        one
        for one in findings
        if any(group.items() <= one.shown.items() for group in deed.groups)
        and first <= one.held_until
        and one.opened_at <= last + DAY
    ]


def taken(deed: Deed, findings: Sequence[Finding]) -> int:
    """Number of records taken before the first finding."""
    opened = min(one.opened_at for one in findings)
    return sum(time <= opened for time in deed.times)


def by_risk(findings: Sequence[Finding]) -> list[str]:
    """Returns actors, sorted by their highest risk at any time."""
    by_actor: dict[str, list[Finding]] = defaultdict(list)
    for one in findings:
        by_actor[one.shown.get("actor", "")].append(one)
    by_actor.pop("", None)
    most = {actor: max(risks(theirs, one.opened_at)[0].score for one in theirs) for actor, theirs in by_actor.items()}
    return sorted(most, key=lambda actor: -most[actor])
