"""Thousands of schedules of the monitor's loop, each from a seed; builds broken on purpose must be found out."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest

from custodes.runtime.monitor import Monitor
from simulation import play

SCHEDULES = int(os.environ.get("SIMULATION_SCHEDULES", "2000"))
FIRST = int(os.environ.get("SIMULATION_SEED", random.randrange(1 << 32)))


@pytest.mark.parametrize("share", range(4))
def test_nothing_is_lost_or_doubled_whatever_happens(share: int) -> None:
    print(f"SIMULATION_SEED={FIRST} SIMULATION_SCHEDULES={SCHEDULES}")  # noqa: T201 - to run it again
    for seed in range(FIRST + share, FIRST + SCHEDULES, 4):
        wrong = play(seed)
        assert not wrong, f"SIMULATION_SEED={seed} SIMULATION_SCHEDULES=1\n" + "\n".join(wrong)


def commit_before_the_snapshot(monitor: Monitor) -> None:
    commit = monitor._source.commit
    monitor._source.commit = lambda streams=None: commit(None)  # type: ignore[method-assign]


def begin_at_the_committed_offsets(monitor: Monitor) -> None:
    monitor._source.resume([])  # type: ignore[attr-defined]


def forget_what_a_part_had_counted(monitor: Monitor) -> None:
    for stream in range(3):
        monitor._work.tasks()[0].engine.begin_anew(stream)


def save_what_is_not_stored(monitor: Monitor) -> None:
    """Forgets that findings wait, so that a snapshot is taken and offsets are committed without them."""
    monitor._refused = lambda error: monitor._work.tasks()[0].unstored.clear()  # type: ignore[method-assign]


@pytest.mark.parametrize(
    "broken",
    [
        commit_before_the_snapshot,
        begin_at_the_committed_offsets,
        forget_what_a_part_had_counted,
        save_what_is_not_stored,
    ],
)
def test_a_broken_build_is_found_out(broken: Callable[[Monitor], None]) -> None:
    assert any(play(seed, broken) for seed in range(200)), "the simulation has become too kind"
