"""Going on from the newest snapshot that can be read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import structlog

from custodes._core import Engine, Tables, restore
from custodes.rules import Rule
from custodes.state.snapshots import RefusedError, Snapshot, Snapshots, UnreadableError

log = structlog.get_logger("custodes.state")


@dataclass(frozen=True)
class Recovered:
    """What a process begins with."""

    engine: Engine
    snapshot: Snapshot | None
    """The one it goes on from; ``None`` begins with empty windows."""
    damaged: int
    """Newer ones that could not be read."""
    left_open: list[tuple[str, int]]
    """Findings of rules that are gone: ids, and ends of what is known of them."""


def recover(snapshots: Snapshots, plan: str, rules: Sequence[Rule], threads: int, tables: Tables) -> Recovered:
    """An engine that goes on from the newest snapshot that can be read; one without events if there is none.

    Raises :class:`RefusedError` for a snapshot that is not for us, and ``ValueError`` for a plan that cannot be run.
    """
    damaged = 0
    for number in snapshots.numbers():
        try:
            snapshot = snapshots.read(number)
        except RefusedError:
            raise
        except (UnreadableError, OSError) as error:
            log.warning("a snapshot cannot be read; trying the one before", snapshot=number, error=str(error))
            damaged += 1
            continue
        engine, windows, decisions, left_open = restore(plan, snapshot.frame, snapshot.parts, threads)
        engine.use_tables(tables)
        tell_of_dropped(windows, decisions, rules)
        log.info("going on from a snapshot", snapshot=number, streams=len(snapshot.places))
        return Recovered(engine, snapshot, damaged, left_open)
    if damaged:
        log.critical("no snapshot can be read; windows begin empty after the committed offsets", damaged=damaged)
    engine = Engine(plan, threads)
    engine.use_tables(tables)
    return Recovered(engine, None, damaged, [])


def tell_of_dropped(windows: Iterable[str], decisions: Iterable[str], rules: Sequence[Rule]) -> None:
    """Logs which rules, by their ids, go on without the windows or the open findings they had."""
    titles = {rule.id: rule.title for rule in rules}
    for ids, what in ((set(windows), "windows"), (set(decisions) - set(windows), "open findings")):
        for id_ in sorted(ids):
            log.warning(f"a rule is gone or another; its {what} were dropped", rule=titles.get(id_, id_))
