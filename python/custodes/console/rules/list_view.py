"""What the page of rules shows: how each fares."""

from __future__ import annotations

from dataclasses import dataclass

from custodes.console.services import Services
from custodes.rules import Rule


@dataclass(frozen=True)
class RuleSummary:
    """One rule."""

    rule: Rule
    open: int
    """Findings that hold now."""
    total: int
    last: int | None
    """When one last opened, in microseconds since the epoch."""
    verdicts: dict[str, int]
    groups: int
    """Those it remembers now: what it costs."""
    peak_ratio: float
    """The largest count now, as a share of the threshold."""

    @property
    def judged(self) -> int:
        """Findings that people have closed, duplicates aside."""
        return sum(count for verdict, count in self.verdicts.items() if verdict != "duplicate")

    @property
    def false_share(self) -> str:
        """Which part of those was no use."""
        return f"{self.verdicts.get('false_positive', 0) / self.judged:.0%}" if self.judged else "–"


def rules_view(services: Services) -> list[RuleSummary]:
    """The rules in force, those with open findings first."""
    store = services.monitor.store
    opened, tallies, verdicts = store.open_counts(), store.tallies(), services.triage.verdicts()
    figures = services.monitor.figures
    lines = []
    for rule in services.rules:
        total, last = tallies.get(rule.id, (0, None))
        remembered, ratio = figures.groups.get(rule.id, 0), figures.peak_ratio.get(rule.id, 0.0)
        judged = verdicts.get(rule.id, {})
        lines.append(RuleSummary(rule, opened.get(rule.id, 0), total, last, judged, remembered, ratio))
    return sorted(lines, key=lambda line: (-line.open, -line.total, line.rule.title))
