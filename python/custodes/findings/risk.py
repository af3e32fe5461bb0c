"""Risk: what an actor's findings come to together, as points that fade.

A weak signal alone is no reason to call anybody; several of one person are. Each finding gives points by its level,
times how far above its threshold it went, and of each rule only the strongest counts in full: the fifth of one kind
says less than the first of another. Points halve in thirty days. The idea is that of risk-based alerting.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from custodes.findings.model import Finding
from custodes.rules.model import POINTS

_DAY = 86_400_000_000
MOST_TIMES = 4.0
"""Further above its threshold a finding gives no more."""
HALF_LIFE_DAYS = 30
AGAIN = 0.25
"""What another finding of the same rule counts, beside the strongest."""
REACH = 6 * HALF_LIFE_DAYS * _DAY
"""Microseconds after which a finding gives next to nothing, and is not asked for."""


@dataclass(frozen=True)
class Risk:
    """One actor's."""

    actor: str
    score: float
    findings: Sequence[Finding]
    """What makes it up, the latest first."""

    def at(self, time: int) -> float:
        """The score as it was at a time, in microseconds since the epoch, by the findings known by then."""
        return _score([one for one in self.findings if one.opened_at <= time], time)

    @property
    def rules(self) -> list[str]:
        """The titles of the rules, each once, the latest first."""
        return list(dict.fromkeys(finding.rule for finding in self.findings))


def risks(findings: Iterable[Finding], now: int) -> list[Risk]:
    """Actors by their risk at ``now``, in microseconds since the epoch, the highest first.

    Findings after it are not known yet, and those whose groups have no ``actor`` are nobody's.
    """
    by_actor: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        if "actor" in finding.group and finding.opened_at <= now:
            by_actor[finding.group["actor"]].append(finding)
    listed = [
        Risk(actor, _score(theirs, now), sorted(theirs, key=lambda one: -one.opened_at))
        for actor, theirs in by_actor.items()
    ]
    return sorted(listed, key=lambda risk: (-risk.score, risk.actor))


def _score(findings: Sequence[Finding], now: int) -> float:
    by_rule: dict[str, list[float]] = defaultdict(list)
    for finding in findings:
        fades = 0.5 ** ((now - finding.opened_at) / (HALF_LIFE_DAYS * _DAY))
        by_rule[finding.rule_id].append(POINTS[finding.level] * min(finding.times_threshold, MOST_TIMES) * fades)
    return sum(max(points) * (1 - AGAIN) + AGAIN * sum(points) for points in by_rule.values())
