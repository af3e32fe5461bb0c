"""Self-monitoring: the audit trail of Custodes' own users, evaluated by dedicated rules on the same engine.

Processes that share a database each evaluate the whole trail, which is short. They find the same, and the store keeps
each finding once.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta

from custodes._core import Engine, Outcome
from custodes.accounts.audit import AuditTrail
from custodes.config.mapping import load_mapping
from custodes.findings import Finding
from custodes.findings.store import FindingStore
from custodes.rules import Rule, build_plan, load_rules, own_rules

_REACH = timedelta(hours=3)
"""Part of the trail that is replayed at the start, in microseconds: longer than any window plus ``keep_open``."""

FindingChanges = Sequence[tuple[str, Finding]]


class SelfMonitor:
    """Evaluates new entries of the trail. Safe to use from any thread."""

    def __init__(self, trail: AuditTrail, store: FindingStore, on_news: Callable[[FindingChanges], None]) -> None:
        """``on_news`` is called for findings that open and close, as by the monitor."""
        self.rules: Sequence[Rule] = load_rules(own_rules())
        self._trail, self._store, self._on_news = trail, store, on_news
        self._engine = Engine(build_plan(self.rules, load_mapping("custodes"), allowed_lateness=timedelta(minutes=1)))
        self._lock = threading.Lock()
        self._heard: int | None = None

    def catch_up(self, now: int) -> None:
        """Evaluates entries since the last call; ``now`` is in microseconds. Raises the database's errors."""
        with self._lock:
            if self._heard is None:
                self._heard = self._trail.number_before(now - _REACH // timedelta(microseconds=1))
            looks = self._trail.after(self._heard)
            for number, look in looks:
                self._take(self._engine.process_lines(json.dumps(look.as_event()).encode()))
                self._heard = number
            # Advancing the clock closes findings although no new entry arrives.
            self._take(self._engine.observe(0, now))
            self._store.refresh(self._engine.updates(), self.rules)

    def _take(self, outcome: Outcome) -> None:
        if outcome.changes:
            self._on_news(self._store.apply(outcome.changes, self.rules))
