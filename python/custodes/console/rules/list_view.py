"""View model of the Rules page: statistics of each rule."""

from __future__ import annotations

from dataclasses import dataclass

from custodes.console.services import Services
from custodes.rules import Rule


@dataclass(frozen=True)
class RuleSummary:
    """A rule with its statistics."""

    rule: Rule
    open: int
    """Ongoing findings that are not closed."""
    total: int
    last: int | None
    """Time at which a finding last opened, in microseconds since the epoch."""
    verdicts: dict[str, int]
    groups: int
    """Groups for which the rule holds state now, a measure of its memory use."""
    peak_ratio: float
    """Largest count now, as a share of the threshold."""

    @property
    def reviewed(self) -> int:
        """Number of closed findings, without duplicates."""
        return sum(count for verdict, count in self.verdicts.items() if verdict != "duplicate")

    @property
    def false_positive_rate(self) -> str:
        """False-positive rate: their share among the closed findings."""
        return f"{self.verdicts.get('false_positive', 0) / self.reviewed:.0%}" if self.reviewed else "–"


def rules_view(services: Services) -> list[RuleSummary]:
    """Returns the active rules, those with open findings first."""
    store = services.monitor.store
    opened, tallies, verdicts = store.open_counts(), store.tallies(), services.triage.verdicts()
    figures = services.monitor.figures
    lines = []
    for rule in services.rules:
        total, last = tallies.get(rule.id, (0, None))
        remembered, ratio = figures.groups.get(rule.id, 0), figures.peak_ratio.get(rule.id, 0.0)
        reviewed = verdicts.get(rule.id, {})
        lines.append(RuleSummary(rule, opened.get(rule.id, 0), total, last, reviewed, remembered, ratio))
    return sorted(lines, key=lambda line: (-line.open, -line.total, line.rule.title))
