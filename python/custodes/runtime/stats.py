"""Statistics over the tasks of a process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from custodes.runtime.task import Task


@dataclass(frozen=True)
class TaskStats:
    """Sums over all tasks; rules are keyed by id."""

    groups: dict[str, int]
    open_findings: dict[str, int]
    unlisted: dict[str, int]
    """Groups that meet the condition but got no finding because too many are open."""
    peak_ratio: dict[str, float]
    """Maximum over the tasks."""
    bytes: int
    watermark: int | None
    """Minimum over the tasks."""
    newest: int | None
    snapshot_at: float | None
    """Start of the oldest of the tasks' latest snapshots."""
    snapshot_failures: int

    @classmethod
    def of(cls, tasks: Iterable[Task]) -> TaskStats:
        groups: defaultdict[str, int] = defaultdict(int)
        open_findings: defaultdict[str, int] = defaultdict(int)
        unlisted: defaultdict[str, int] = defaultdict(int)
        peak_ratio: defaultdict[str, float] = defaultdict(float)
        size = failures = 0
        watermarks, newest, taken = [], [], []
        for task in tasks:
            stats = task.engine.stats()
            for rule, figures in zip(task.rules, stats.rules, strict=True):
                groups[rule.id] += figures.groups
                open_findings[rule.id] += figures.open_findings
                unlisted[rule.id] += figures.suppressed
                peak_ratio[rule.id] = max(peak_ratio[rule.id], figures.peak_ratio)
            size += stats.bytes
            watermarks.append(stats.watermark)
            newest.append(stats.newest)
            if task.checkpoints is not None:
                taken.append(task.checkpoints.taken_at)
                failures = max(failures, task.checkpoints.failures)
        return cls(
            groups=groups,
            open_findings=open_findings,
            unlisted=unlisted,
            peak_ratio=peak_ratio,
            bytes=size,
            watermark=min((time for time in watermarks if time is not None), default=None),
            newest=max((time for time in newest if time is not None), default=None),
            snapshot_at=min((time for time in taken if time is not None), default=None),
            snapshot_failures=failures,
        )
