"""Tasks: what is counted together, with what makes it survive.

A monitor by itself has one; one of several workers has one for each partition that is its own now.
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
    """An engine, and how it stands with database and snapshots."""

    name: str
    engine: Engine
    rules: Sequence[Rule]
    checkpoints: Checkpoints | None
    places: Callable[[], list[StreamPosition]]
    """Where the source stands, as far as this task has counted."""
    claim: Claim | None = None
    """The right to tell of its findings, where a database is shared."""
    reads_events: bool = True
    """Whether events come here first, and are to be told of."""
    unstored: list[FindingChange] = field(default_factory=list)
    """What waits for a database that refuses."""

    def replan(self, plan: str, rules: Sequence[Rule], threads: int) -> list[tuple[str, int]]:
        """Goes on with other rules. Returns findings left open by those that are gone.

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
        """Those there are now."""

    def take(self, arrival: SourceMessage | RepartitionRecords, now: int) -> TaskOutcomes:
        """Has something counted that came from the source; ``now`` is in microseconds."""

    def settle(self) -> None:
        """Once a round, when all that came has been taken."""

    def finish(self) -> TaskOutcomes:
        """Nothing will ever come again."""

    def lost(self, task: Task) -> None:
        """Another worker has the task; what it counted here is nothing any more."""

    def replan(self, ruleset: Ruleset, threads: int) -> list[tuple[str, int]]:
        """Has all tasks go on with other rules. Returns findings left open by those that are gone.

        Raises ``ValueError`` for what cannot be run; then nothing has changed.
        """

    def covered(self) -> set[int] | None:
        """The source's streams that a restart would know where to begin in; ``None`` where it begins anew anyway."""


class SingleTask:
    """One engine for all that the source brings."""

    def __init__(
        self, engine: Engine, rules: Sequence[Rule], source: ResumableSource, checkpoints: Checkpoints | None = None
    ) -> None:
        """Without ``checkpoints`` a restart begins with empty windows after what was committed."""
        self._task = Task("all", engine, rules, checkpoints, source.places)

    def tasks(self) -> Sequence[Task]:
        return [self._task]

    def take(self, arrival: SourceMessage | RepartitionRecords, now: int) -> TaskOutcomes:
        if isinstance(arrival, RepartitionRecords):
            raise TypeError("only workers that share the counting hand events on")
        if isinstance(arrival, StreamLeft) and self._task.checkpoints is not None:
            self._task.checkpoints.forget(arrival.stream)
        outcome = arrival.feed(self._task.engine, now)
        return [] if outcome is None else [(self._task, outcome)]

    def settle(self) -> None:
        """Nothing is left to do."""

    def finish(self) -> TaskOutcomes:
        return [(self._task, self._task.engine.finish())]

    def lost(self, task: Task) -> None:
        raise RuntimeError("a task that nobody claimed was lost")

    def replan(self, ruleset: Ruleset, threads: int) -> list[tuple[str, int]]:
        return self._task.replan(ruleset.plan(), ruleset.rules, threads)

    def covered(self) -> set[int] | None:
        return None if self._task.checkpoints is None else self._task.checkpoints.covered
