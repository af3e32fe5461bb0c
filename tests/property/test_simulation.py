"""Thousands of random schedules of the monitor's loop; deliberately broken builds must be detected."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from simulation import Build, play

SCHEDULES = int(os.environ.get("SIMULATION_SCHEDULES", "2000"))
FIRST = int(os.environ.get("SIMULATION_SEED", random.randrange(1 << 32)))


@pytest.mark.parametrize("share", range(4))
def test_nothing_is_lost_or_duplicated_in_any_schedule(share: int) -> None:
    print(f"SIMULATION_SEED={FIRST} SIMULATION_SCHEDULES={SCHEDULES}")  # noqa: T201 - to run it again
    for seed in range(FIRST + share, FIRST + SCHEDULES, 4):
        wrong = play(seed)
        assert not wrong, f"SIMULATION_SEED={seed} SIMULATION_SCHEDULES=1\n" + "\n".join(wrong)


def commit_before_the_snapshot(build: Build) -> None:
    commit = build.source.commit
    build.source.commit = lambda streams=None: commit(None)  # type: ignore[method-assign]


def begin_at_the_committed_offsets(build: Build) -> None:
    build.source.resume([])


def forget_what_a_part_had_counted(build: Build) -> None:
    for stream in range(3):
        build.work.tasks()[0].engine.reset_stream(stream)


def save_what_is_not_stored(build: Build) -> None:
    """Drops findings that the database refused, so that a snapshot is taken and offsets are committed without them."""
    apply = build.store.apply

    def drop_what_is_refused(*arguments: Any) -> Any:
        try:
            return apply(*arguments)
        except OperationalError:
            build.work.tasks()[0].unstored.clear()
            raise

    build.store.apply = drop_what_is_refused  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize(
    "broken",
    [
        commit_before_the_snapshot,
        begin_at_the_committed_offsets,
        forget_what_a_part_had_counted,
        save_what_is_not_stored,
    ],
)
def test_a_broken_build_is_detected(broken: Callable[[Build], None]) -> None:
    assert any(play(seed, broken) for seed in range(200)), "the simulation has become too kind"
