"""The demo's source keeps to what the machine can do: it slows the made-up clock instead of building up a backlog."""

from __future__ import annotations

from itertools import islice, pairwise

from custodes.demo.agency import Agency
from custodes.demo.source import DemoSource
from custodes.sources import LineChunk

FASTER_THAN_ANY_MACHINE = 1e15
"""Agency seconds per second: ten million days in the time of one poll."""
MOST_DAYS = 60
"""More days than a poll can generate within its time limit on a fast machine, and far fewer than are asked for."""


def lines(polled: list[object]) -> list[bytes]:
    return [line for chunk in polled if isinstance(chunk, LineChunk) for line in chunk.text.splitlines(keepends=True)]


def generated(days: int) -> list[bytes]:
    return [line for day in islice(Agency(1).days(), days) for _, line in day.events]


def test_a_speed_beyond_the_machine_slows_the_clock() -> None:
    source = DemoSource(Agency(1), FASTER_THAN_ANY_MACHINE, once=False)
    polled: list[bytes] = []
    clocks = [source.clock()]
    for _ in range(3):
        polled += lines(list(source.poll(0)))
        clocks.append(source.clock())
    days = [round((after - before) / 86_400) for before, after in pairwise(clocks)]
    assert all(0 < passed <= MOST_DAYS for passed in days)
    assert polled == generated(sum(days)), "the events are the agency's own, in order, without a gap"


def test_no_event_is_ahead_of_the_clock() -> None:
    source = DemoSource(Agency(1), 3600.0 * 24 * 3, once=False)
    count = 0
    for _ in range(5):
        count += len(lines(list(source.poll(1))))
    times = [time for day in islice(Agency(1).days(), 10) for time, _ in day.events]
    assert all(time <= source.clock() * 1e6 for time in times[:count])
    assert times[count] > source.clock() * 1e6


def test_a_stop_ends_a_poll_before_the_next_day() -> None:
    source = DemoSource(Agency(1), FASTER_THAN_ANY_MACHINE, once=False, stopped=lambda: True)
    assert source.poll(0) == []


def test_a_demo_fortnight_ends() -> None:
    source = DemoSource(Agency(1), FASTER_THAN_ANY_MACHINE, once=True)
    polled: list[bytes] = []
    while not source.finished:
        polled += lines(list(source.poll(0)))
    assert polled == generated(14)
