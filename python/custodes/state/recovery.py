"""Going on from the newest snapshot that can be read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from custodes._core import Engine, Tables, restore
from custodes.log_events import NoSnapshotReadable, RuleStateDropped, SnapshotRestored, SnapshotUnreadable
from custodes.rules import Rule
from custodes.state.snapshots import CorruptSnapshotError, IncompatibleSnapshotError, Snapshot, Snapshots


@dataclass(frozen=True)
class RecoveredState:
    """What a process begins with."""

    engine: Engine
    snapshot: Snapshot | None
    """The one it goes on from; ``None`` begins with empty windows."""
    damaged: int
    """Newer ones that could not be read."""
    left_open: list[tuple[str, int]]
    """Findings of rules that are gone: ids, and ends of what is known of them."""


def recover(snapshots: Snapshots, plan: str, rules: Sequence[Rule], threads: int, tables: Tables) -> RecoveredState:
    """An engine that goes on from the newest snapshot that can be read; one without events if there is none.

    Raises :class:`IncompatibleSnapshotError` for a snapshot of another installation or version, and ``ValueError``
    for a plan that the engine rejects.
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
        engine, windows, decisions, left_open = restore(plan, snapshot.frame, snapshot.parts, threads)
        engine.use_tables(tables)
        tell_of_dropped(windows, decisions, rules)
        SnapshotRestored(snapshot=number, streams=len(snapshot.places)).emit()
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
