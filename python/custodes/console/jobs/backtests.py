"""What the page of one rule shows: what it says, how it fares, and what it would have found at other thresholds."""

from __future__ import annotations

from dataclasses import dataclass

from custodes.authoring.backtest import Backtest, backtest
from custodes.authoring.recorded_events import EventRecords
from custodes.authoring.sweep_parameter import BacktestError
from custodes.console.jobs.background import BackgroundCache
from custodes.evidence.contributing_events import ContributingEvents
from custodes.history import History
from custodes.rules import Rule

MOST_EVENTS = 200_000
"""So many of the latest events are counted again."""


@dataclass(frozen=True)
class BacktestResult:
    """What a rule would have found."""

    tested: Backtest | None
    why_not: str = ""
    """Why it cannot be told."""


class BacktestJob:
    """Works out, in the background, what rules would have found in the latest events of the history."""

    def __init__(self, history: History, behind: ContributingEvents) -> None:
        self._history = history
        self._behind = behind
        self._background = BackgroundCache(self._work_out, "backtest")

    def of(self, rule: Rule) -> BacktestResult | None:
        """``None`` as long as it is being worked out."""
        return self._background.of(rule.id)

    def _work_out(self, rule_id: str) -> BacktestResult:
        rule = self._behind.rule(rule_id)
        if rule is None:
            return BacktestResult(None, "it is one by which Custodes watches its own users")
        records = EventRecords(self._history.latest_records(MOST_EVENTS))
        try:
            return BacktestResult(backtest(rule, records, self._behind.ruleset.write, tables=self._behind.tables))
        except BacktestError as error:
            return BacktestResult(None, str(error))
