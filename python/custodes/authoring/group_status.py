"""Status of an event's groups under a rule, after earlier events: counts and thresholds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from custodes._core import Engine, GroupStatus, Tables
from custodes.authoring.explain import Explanation
from custodes.authoring.recorded_events import event_times
from custodes.config.mapping import Mapping
from custodes.rules import Rule, build_plan
from custodes.sources.replay import read_files
from custodes.sources.replay_coverage import ReplayCoverage


@dataclass(frozen=True)
class GroupState:
    """Status of one group under one rule, at the time of an event."""

    group: dict[str, str]
    before: float
    """Count or measure in the window that ends with the event's pane, without the event."""
    after: float
    threshold: float | None
    """Threshold; ``None`` while a baseline has too little data."""
    expected: float | None
    """Expected count, for a rule with a baseline."""


class ReplayedRule:
    """A rule over recorded events."""

    def __init__(
        self,
        rule: Rule,
        rules: Sequence[Rule],
        mapping: Mapping,
        tables: Tables,
        paths: Sequence[Path],
        *,
        lateness: timedelta,
        on_bytes: Callable[[int], None] = lambda size: None,
    ) -> None:
        """Reads all of ``paths``. ``rules`` include those whose findings ``rule`` may count."""
        wanted = rule.with_followed(rules)
        self._rule = rule
        self._engine = Engine(build_plan(wanted, mapping, allowed_lateness=lateness))
        self._engine.use_tables(tables)
        self.coverage = ReplayCoverage()
        """Figures of ``paths``."""
        with closing(read_files(self._engine, paths, event_times(mapping), self.coverage, on_bytes)) as batches:
            for _ in batches:
                pass

    def take(self, event: bytes, explained: Explanation) -> list[GroupState]:
        """Counts one more event, whose evaluation is ``explained``; returns the status of its groups afterwards."""
        names = list(itertools.product(*explained.group.values()))
        before = [self._stands(group, explained.time) for group in names]
        self._engine.process_lines(event)
        after = [self._stands(group, explained.time) for group in names]
        return [
            GroupState(
                group=dict(zip(self._rule.group_by, group, strict=True)),
                before=was.level if was else 0,
                after=status.level,
                threshold=status.threshold,
                expected=status.expected,
            )
            for group, was, status in zip(names, before, after, strict=True)
            if status is not None
        ]

    def _stands(self, group: Sequence[str], time: int | None) -> GroupStatus | None:
        return None if time is None else self._engine.group_status(0, group, time)
