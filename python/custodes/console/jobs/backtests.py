"""Backtest of a rule for its page: findings that other thresholds would have produced."""

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
"""Number of newest events to replay."""


@dataclass(frozen=True)
class BacktestResult:
    """Result of a backtest."""

    tested: Backtest | None
    why_not: str = ""
    """Reason why there is no result."""


class BacktestJob:
    """Backtests rules on the newest events of the history, in the background."""

    def __init__(self, history: History, contributions: ContributingEvents) -> None:
        self._history = history
        self._contributions = contributions
        self._background = BackgroundCache(self._work_out, "backtest")

    def of(self, rule: Rule) -> BacktestResult | None:
        """Returns the result, or ``None`` while it is computed."""
        return self._background.of(rule.id)

    def _work_out(self, rule_id: str) -> BacktestResult:
        rule = self._contributions.rule(rule_id)
        if rule is None:
            return BacktestResult(None, "rules that monitor the users of Custodes have no backtest")
        records = EventRecords(self._history.latest_records(MOST_EVENTS))
        try:
            return BacktestResult(
                backtest(rule, records, self._contributions.ruleset.write, tables=self._contributions.tables)
            )
        except BacktestError as error:
            return BacktestResult(None, str(error))
