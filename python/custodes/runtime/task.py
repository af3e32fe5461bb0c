"""Tasks: units of counting with their snapshots and claims.

A single monitor has one task; a worker has one task for each partition assigned to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from custodes._core import Engine, FindingChange, Outcome
from custodes.findings.store import Claim
from custodes.rules import Rule, Ruleset
from custodes.sources import RepartitionRecords, ResumableSource, SourceMessage, StreamLeft, StreamPosition, positions
from custodes.state import Checkpoints, tell_of_dropped


@dataclass(eq=False)
class Task:
    """An engine with its claim and its snapshots."""

    name: str
    engine: Engine
    rules: Sequence[Rule]
    checkpoints: Checkpoints | None
    places: Callable[[], list[StreamPosition]]
    """Returns the positions up to which the task has counted."""
    claim: Claim | None = None
    """The right to write the task's findings, if the database is shared."""
    reads_events: bool = True
    """Whether events arrive here first and are recorded here."""
    unstored: list[FindingChange] = field(default_factory=list)
    """Findings that wait for the database."""

    def replan(self, plan: str, rules: Sequence[Rule], threads: int) -> list[tuple[str, int]]:
        """Replaces the rules. Returns open findings of removed rules.

        Raises ``ValueError`` for a plan that cannot be run; then nothing has changed.
        """
        restored = self.engine.replanned(plan, positions(self.places()), threads)
        tell_of_dropped(restored.dropped.windows, restored.dropped.decisions, [*self.rules, *rules])
        self.engine, self.rules = restored.engine, rules
        if self.checkpoints is not None:
            self.checkpoints.drop()
        return [(orphan.id, orphan.held_until) for orphan in restored.dropped.orphans]


TaskOutcomes = Iterable[tuple[Task, Outcome]]


class TaskSet(Protocol):
    """The tasks of one process."""

    def tasks(self) -> Sequence[Task]:
        """Returns the current tasks."""

    def take(self, arrival: SourceMessage | RepartitionRecords, now: int) -> TaskOutcomes:
        """Counts a message of the source; ``now`` is in microseconds."""

    def settle(self) -> None:
        """Called once per round, after all messages are counted."""

    def finish(self) -> TaskOutcomes:
        """Called after the source has ended."""

    def lost(self, task: Task) -> None:
        """Discards a task that another worker has claimed, with its counts."""

    def replan(self, ruleset: Ruleset, threads: int) -> list[tuple[str, int]]:
        """Replaces the rules of all tasks. Returns open findings of removed rules.

        Raises ``ValueError`` for rules that cannot be run; then nothing has changed.
        """

    def covered(self) -> set[int] | None:
        """Returns the streams for which a restart would find a position; ``None`` if a restart needs no saved
        positions."""


class SingleTask:
    """One engine for all events of the source."""

    def __init__(
        self, engine: Engine, rules: Sequence[Rule], source: ResumableSource, checkpoints: Checkpoints | None = None
    ) -> None:
        """Without ``checkpoints``, a restart starts with empty windows at the committed offsets."""
        self._task = Task("all", engine, rules, checkpoints, source.places)

    def tasks(self) -> Sequence[Task]:
        return [self._task]

    def take(self, arrival: SourceMessage | RepartitionRecords, now: int) -> TaskOutcomes:
        if isinstance(arrival, RepartitionRecords):
            raise TypeError("records of the repartition topic require workers")
        if isinstance(arrival, StreamLeft) and self._task.checkpoints is not None:
            self._task.checkpoints.forget(arrival.stream)
        outcome = arrival.feed(self._task.engine, now)
        return [] if outcome is None else [(self._task, outcome)]

    def settle(self) -> None:
        """Does nothing."""

    def finish(self) -> TaskOutcomes:
        return [(self._task, self._task.engine.finish())]

    def lost(self, task: Task) -> None:
        raise RuntimeError("a task without a claim was lost")

    def replan(self, ruleset: Ruleset, threads: int) -> list[tuple[str, int]]:
        return self._task.replan(ruleset.plan(), ruleset.rules, threads)

    def covered(self) -> set[int] | None:
        return None if self._task.checkpoints is None else self._task.checkpoints.covered
