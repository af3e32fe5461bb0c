"""Limits of memory and of open findings, and the record of shortfalls they caused."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Literal

from custodes.findings import Shortfall
from custodes.log_events import FindingsSuppressed, MemoryLimitExceeded, MemoryLimitReached, ShortfallEnded
from custodes.rules import Rule
from custodes.runtime.metrics import Metrics
from custodes.runtime.stats import TaskStats
from custodes.runtime.task import Task

_ROOM = 10
"""Inverse of the share of memory to free in one eviction; more than needed, because finding state to evict takes time.
"""
_PATIENCE_SECONDS = 5.0
"""Seconds until eviction is retried after it freed too little, unless memory grows by as much before."""

_LimitKind = Literal["memory", "storm", "refused"]


class Limits:
    """Keeps window state within its memory limit, and records what was evicted or suppressed."""

    def __init__(self, memory: int | None, metrics: Metrics, clock: Callable[[], float]) -> None:
        """``memory`` is in bytes, for all tasks together; ``None`` sets no limit. ``clock`` is in epoch seconds."""
        self._memory = memory
        self._metrics = metrics
        self._clock = clock
        self._bound: float = float("inf") if memory is None else memory
        self._patient_until = 0.0
        self._lasting: dict[tuple[_LimitKind, str], Shortfall] = {}
        self.untold: dict[tuple[_LimitKind, str, int], Shortfall] = {}
        """New and changed shortfalls; the caller clears them after storing them."""
        metrics.memory_limit.set(self._bound)

    def keep(self, tasks: Sequence[Task]) -> None:
        """Evicts the state that was unused for longest, if window state exceeds its memory limit."""
        if self._memory is None:
            return
        if time.monotonic() >= self._patient_until:
            self._bound = self._memory
        bytes_of = [task.engine.used_bytes() for task in tasks]
        if sum(bytes_of) <= self._bound:
            return
        share = self._memory * (1 - 1 / _ROOM) / sum(bytes_of)
        for task, its_bytes in zip(tasks, bytes_of, strict=True):
            evicted = task.engine.evict(int(its_bytes * share))
            if evicted is not None:
                for rule, counts in zip(task.rules, evicted.rules, strict=True):
                    self._forgot(rule, counts.groups, counts.values)
        left = sum(task.engine.used_bytes() for task in tasks)
        if left > self._memory:
            MemoryLimitExceeded(bytes=left).emit()
        self._bound = max(self._memory, left + self._memory / _ROOM)
        self._patient_until = time.monotonic() + _PATIENCE_SECONDS

    def _forgot(self, rule: Rule, groups: int, values: int) -> None:
        if not groups and not values:
            return
        self._metrics.evicted_groups.labels(rule.title).inc(groups)
        self._metrics.evicted_values.labels(rule.title).inc(values)
        # Evicted state would have left the window by then.
        whole_again = self._clock() + rule.timespan.total_seconds()
        known = self._lasting.get(("memory", rule.id))
        if known is None:
            MemoryLimitReached(rule=rule.title, groups=groups, values=values).emit()
            known = self._begin("memory", rule)
        self._note(
            replace(known, until=int(whole_again * 1e6), groups=known.groups + groups, values=known.values + values)
        )

    def look(self, figures: TaskStats, rules: Iterable[Rule]) -> None:
        """Updates the open shortfalls and closes those that ended. Called once per second."""
        now = int(self._clock() * 1e6)
        for rule in rules:
            if unlisted := figures.unlisted.get(rule.id, 0):
                known = self._lasting.get(("storm", rule.id))
                if known is None:
                    FindingsSuppressed(rule=rule.title).emit()
                    known = self._begin("storm", rule)
                self._note(replace(known, until=now, groups=max(known.groups, unlisted)))
        for shortfall in list(self._lasting.values()):
            if shortfall.until < now:
                del self._lasting[shortfall.kind, shortfall.rule_id]
                ShortfallEnded(kind=shortfall.kind, rule=shortfall.rule_id).emit()

    def _begin(self, kind: _LimitKind, rule: Rule) -> Shortfall:
        now = int(self._clock() * 1e6)
        return Shortfall(kind, rule.id, now, now, 0, 0)

    def _note(self, shortfall: Shortfall) -> None:
        self._lasting[shortfall.kind, shortfall.rule_id] = shortfall
        self.untold[shortfall.kind, shortfall.rule_id, shortfall.since] = shortfall
