"""Restoring the engine from the newest readable snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from custodes._core import Engine, Tables, restore
from custodes.log_events import NoSnapshotReadable, RuleStateDropped, SnapshotRestored, SnapshotUnreadable
from custodes.rules import Rule
from custodes.state.snapshots import CorruptSnapshotError, IncompatibleSnapshotError, Snapshot, Snapshots


@dataclass(frozen=True)
class RecoveredState:
    """The state with which a process starts."""

    engine: Engine
    snapshot: Snapshot | None
    """The restored snapshot; ``None`` if the engine starts empty."""
    damaged: int
    """Number of newer snapshots that could not be read."""
    left_open: list[tuple[str, int]]
    """Open findings of removed rules: finding id, and end of the interval that is known."""


def recover(snapshots: Snapshots, plan: str, rules: Sequence[Rule], threads: int, tables: Tables) -> RecoveredState:
    """Restores an engine from the newest readable snapshot, or returns an empty one if there is none.

    Raises :class:`IncompatibleSnapshotError` for a snapshot of another installation or version, and ``ValueError`` for
    a plan that the engine rejects.
    """
    damaged = 0
    for number in snapshots.numbers():
        try:
            snapshot = snapshots.read(number)
        except IncompatibleSnapshotError:
            raise
        except (CorruptSnapshotError, OSError) as error:
            SnapshotUnreadable(snapshot=number, error=str(error)).emit()
            damaged += 1
            continue
        restored = restore(plan, snapshot.frame, snapshot.parts, threads)
        engine, dropped = restored.engine, restored.dropped
        engine.use_tables(tables)
        tell_of_dropped(dropped.windows, dropped.decisions, rules)
        SnapshotRestored(snapshot=number, streams=len(snapshot.places)).emit()
        left_open = [(orphan.id, orphan.held_until) for orphan in dropped.orphans]
        return RecoveredState(engine, snapshot, damaged, left_open)
    if damaged:
        NoSnapshotReadable(damaged=damaged).emit()
    engine = Engine(plan, threads)
    engine.use_tables(tables)
    return RecoveredState(engine, None, damaged, [])


def tell_of_dropped(windows: Iterable[str], decisions: Iterable[str], rules: Sequence[Rule]) -> None:
    """Logs which rules, by their ids, go on without the windows or the open findings they had."""
    titles = {rule.id: rule.title for rule in rules}
    for id_ in sorted(set(windows)):
        RuleStateDropped(state="windows", rule=titles.get(id_, id_)).emit()
    for id_ in sorted(set(decisions) - set(windows)):
        RuleStateDropped(state="open findings", rule=titles.get(id_, id_)).emit()
