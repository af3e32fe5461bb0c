"""Plays the agency into the monitor, at a multiple of real time or as fast as it goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice

from custodes.demo.agency import FIRST_DAY, FORTNIGHT, Agency, Day
from custodes.sources import LineChunk, SourceMessage, StatelessSource

_TICK = 0.1
"""Seconds between two batches while pacing."""


class DemoSource(StatelessSource):
    """A source whose clock is the agency's: at speed 40,000 a day takes two seconds."""

    name = "demo"

    def __init__(self, agency: Agency, speed: float | None, once: bool) -> None:
        """``speed`` is agency seconds a second, ``None`` as fast as it goes; ``once`` ends after a fortnight."""
        self._days: Iterator[Day] = islice(agency.days(), FORTNIGHT) if once else agency.days()
        self._speed = speed
        self._waiting: list[tuple[int, bytes]] = []
        self._line = 1
        self._begun = time.monotonic()
        self._now = FIRST_DAY.timestamp()
        self._ended = False

    def clock(self) -> float:
        """The agency's time, in epoch seconds."""
        return self._now

    def poll(self, timeout: float) -> list[SourceMessage]:
        if self._speed is None:
            self._next_day()
            return self._hand_over(len(self._waiting))
        time.sleep(min(timeout, _TICK))
        self._now = FIRST_DAY.timestamp() + (time.monotonic() - self._begun) * self._speed
        due = 0
        while not self._ended and (not self._waiting or self._waiting[-1][0] <= self._now * 1e6):
            self._next_day()
        for at, _ in self._waiting:
            if at > self._now * 1e6:
                break
            due += 1
        return self._hand_over(due)

    def _next_day(self) -> None:
        day = next(self._days, None)
        if day is None:
            self._ended = True
            return
        self._waiting.extend(day.events)
        if self._speed is None:
            self._now = max(self._now, day.date.timestamp() + 86_400)

    def _hand_over(self, count: int) -> list[SourceMessage]:
        lines, self._waiting = self._waiting[:count], self._waiting[count:]
        if not lines:
            return []
        first_line = self._line
        self._line += len(lines)
        return [LineChunk(0, b"".join(line for _, line in lines), first_line)]

    def describe(self, stream: int) -> dict[str, str | int]:
        return {"file": "demo"}

    def lag(self) -> int:
        return 0

    @property
    def finished(self) -> bool:
        return self._ended and not self._waiting

    def close(self) -> None:
        """Nothing to let go of."""
