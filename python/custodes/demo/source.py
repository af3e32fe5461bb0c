"""Feeds the agency's events to the monitor, at a multiple of real time or as fast as possible."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import islice
from operator import itemgetter

from custodes.demo.agency import DAY, FIRST_DAY, FORTNIGHT, Agency, AgencyDay
from custodes.sources import LineChunk, SourceMessage, StatelessSource

_TICK = 0.1
"""Seconds between two polls while paced."""

_GENERATION_SECONDS = 0.25
"""Longest time a poll spends on generating days, in seconds: the events of one poll fit in memory on any machine, and
a stop is noticed soon."""


class DemoSource(StatelessSource):
    """A source whose clock is the agency's: at speed 40,000 a day takes two seconds.

    A machine that cannot generate or count events at the requested speed slows the agency's clock; it never builds up
    a backlog.
    """

    name = "demo"

    def __init__(
        self, agency: Agency, speed: float | None, once: bool, stopped: Callable[[], bool] = lambda: False
    ) -> None:
        """``speed`` is agency seconds per second, ``None`` as fast as possible; ``once`` ends after a fortnight.

        Once ``stopped`` returns true, polls generate nothing more and return at once.
        """
        days = agency.days(stopped)
        self._days: Iterator[AgencyDay] = islice(days, FORTNIGHT) if once else days
        self._speed = speed
        self._stopped = stopped
        self._waiting: list[tuple[int, bytes]] = []
        self._line = 1
        self._polled_at = time.monotonic()
        self._now = FIRST_DAY.timestamp()
        self._generated_until = self._now
        self._ended = False

    def clock(self) -> float:
        """Returns the agency's time, in epoch seconds."""
        return self._now

    def poll(self, timeout: float) -> list[SourceMessage]:
        if self._speed is None:
            self._generate_day()
            self._now = max(self._now, self._generated_until)
            return self._hand_over(len(self._waiting))
        time.sleep(min(timeout, _TICK))
        polled_at = time.monotonic()
        due_until = self._now + (polled_at - self._polled_at) * self._speed
        self._polled_at = polled_at
        while (
            self._generated_until <= due_until
            and not self._ended
            and not self._stopped()
            and time.monotonic() < polled_at + _GENERATION_SECONDS
        ):
            self._generate_day()
        self._now = due_until if self._ended else min(due_until, self._generated_until)
        return self._hand_over(bisect_right(self._waiting, self._now * 1e6, key=itemgetter(0)))

    def _generate_day(self) -> None:
        day = next(self._days, None)
        if day is None:
            # A source that was stopped has not come to its end: open findings stay open.
            self._ended = not self._stopped()
            return
        self._waiting.extend(day.events)
        self._generated_until = (day.date + DAY).timestamp()

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
        """Does nothing: the source holds no resource."""
