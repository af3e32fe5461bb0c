"""Findings in memory: the latest state of each, for a finite run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from custodes._core import FindingChange
from custodes.findings.model import Finding
from custodes.rules import Rule


class FindingAccumulator:
    """Applies changes of the engine, in order."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._latest: dict[str, FindingChange] = {}

    def apply(self, changes: Iterable[FindingChange]) -> None:
        for change in changes:
            if change.kind == "merged":
                self._latest.pop(change.id, None)
            else:
                self._latest[change.id] = change

    def findings(self) -> list[Finding]:
        """Returns all findings, earliest first."""
        latest = sorted(self._latest.values(), key=lambda change: (change.opened_at, change.id))
        return [Finding.of(change, self._rules) for change in latest]
