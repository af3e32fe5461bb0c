"""Random schedules of several workers; deliberately broken builds must be detected."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator

import pytest

from custodes._core import Engine, Outcome
from custodes.sources.repartition import RepartitionInbox, SentRange
from simulated_workers import SimulatedWorker, play

SCHEDULES = int(os.environ.get("SIMULATION_SCHEDULES", "2000")) // 8
"""One schedule of workers takes as long as several of one process."""
FIRST = int(os.environ.get("SIMULATION_SEED", random.randrange(1 << 32)))

# Either pool works for a database in memory.
pytestmark = pytest.mark.filterwarnings("ignore:Selection of the SingletonThreadPool")


def test_nothing_is_lost_or_duplicated_among_workers() -> None:
    print(f"SIMULATION_SEED={FIRST} SIMULATION_SCHEDULES={SCHEDULES * 8}")  # noqa: T201 - to run it again
    for seed in range(FIRST, FIRST + SCHEDULES):
        wrong = play(seed)
        assert not wrong, f"SIMULATION_SEED={seed} SIMULATION_SCHEDULES=8\n" + "\n".join(wrong)


def save_before_it_has_arrived(worker: SimulatedWorker) -> None:
    worker.handing.flush = lambda: None  # type: ignore[method-assign]


def begin_at_the_committed_offsets(worker: SimulatedWorker) -> None:
    begin = worker.source.begin
    worker.source.begin = lambda stream, place: begin(stream, None)  # type: ignore[method-assign]


@pytest.mark.parametrize("broken", [save_before_it_has_arrived, begin_at_the_committed_offsets])
def test_a_broken_build_is_detected(broken: Callable[[SimulatedWorker], None]) -> None:
    assert any(found_out(seed, broken) for seed in range(200)), "the simulation has become too kind"


def test_a_share_without_deduplication_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    take = RepartitionInbox.take

    def forgetful(inbox: RepartitionInbox, sent: SentRange, engine: Engine) -> Iterator[Outcome]:
        inbox.upto.pop(sent.place, None)
        return take(inbox, sent, engine)

    monkeypatch.setattr(RepartitionInbox, "take", forgetful)
    assert any(found_out(seed) for seed in range(200)), "the simulation has become too kind"


def found_out(seed: int, broken: Callable[[SimulatedWorker], None] = lambda worker: None) -> bool:
    try:
        return bool(play(seed, broken))
    except AssertionError:
        return True
