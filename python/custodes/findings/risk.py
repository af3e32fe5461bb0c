"""Risk: the findings of an actor combined into a score that decays.

A single weak signal is no reason for an investigation; several of one person are. Each finding contributes points by
its level, multiplied by how far it exceeded its threshold. Of each rule only the strongest finding counts in full,
because a repeated signal says less than a new one. Points halve in thirty days. The idea is risk-based alerting.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from custodes.findings.model import Finding
from custodes.rules.model import POINTS

_DAY = 86_400_000_000
MOST_TIMES = 4.0
"""Multiple of the threshold above which points no longer increase."""
HALF_LIFE_DAYS = 30
AGAIN = 0.25
"""Weight of further findings of the same rule, relative to the strongest."""
REACH = 6 * HALF_LIFE_DAYS * _DAY
"""Age in microseconds after which a finding contributes almost nothing and is not read."""


@dataclass(frozen=True)
class Risk:
    """The risk of one actor."""

    actor: str
    score: float
    findings: Sequence[Finding]
    """Contributing findings, latest first."""

    def at(self, time: int) -> float:
        """Returns the score at a time, in microseconds since the epoch, from the findings known by then."""
        return _score([one for one in self.findings if one.opened_at <= time], time)

    @property
    def rules(self) -> list[str]:
        """Returns the titles of the rules, each once, latest first."""
        return list(dict.fromkeys(finding.rule for finding in self.findings))


def risks(findings: Iterable[Finding], now: int) -> list[Risk]:
    """Returns actors by risk at ``now``, in microseconds since the epoch, highest first.

    Later findings are ignored, and so are findings whose group has no ``actor``.
    """
    by_actor: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        if "actor" in finding.group and finding.opened_at <= now:
            by_actor[finding.group["actor"]].append(finding)
    listed = [
        Risk(theirs[0].shown["actor"], _score(theirs, now), sorted(theirs, key=lambda one: -one.opened_at))
        for theirs in by_actor.values()
    ]
    return sorted(listed, key=lambda risk: (-risk.score, risk.actor))


def _score(findings: Sequence[Finding], now: int) -> float:
    by_rule: dict[str, list[float]] = defaultdict(list)
    for finding in findings:
        fades = 0.5 ** ((now - finding.opened_at) / (HALF_LIFE_DAYS * _DAY))
        by_rule[finding.rule_id].append(POINTS[finding.level] * min(finding.times_threshold, MOST_TIMES) * fades)
    return sum(max(points) * (1 - AGAIN) + AGAIN * sum(points) for points in by_rule.values())
