"""Times of events in lines of text, as the mapping reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from custodes._core import Engine

SAMPLE = 4
"""Number of lines of which the earliest is taken. Some of them can have a wrong time."""

_CACHED = 1024
"""Number of lines whose times are kept: the lines at the borders of parts of a file are read several times."""
_STEP = 1 << 10
"""Number of bytes after which the end of the lines up to a time is first looked for."""


def first_lines(text: bytes, start: int) -> list[bytes]:
    """Returns the lines of a sample from ``start`` on, which is the start of a line; fewer at the end of the text."""
    lines: list[bytes] = []
    while start < len(text) and len(lines) < SAMPLE:
        end = text.find(b"\n", start) + 1 or len(text)
        lines.append(text[start:end])
        start = end
    return lines


def last_lines(text: bytes) -> list[bytes]:
    """Returns the last lines of a text."""
    lines: list[bytes] = []
    end = len(text)
    while end > 0 and len(lines) < SAMPLE:
        start = text.rfind(b"\n", 0, end - 1) + 1
        lines.append(text[start:end])
        end = start
    return lines


class EventTimes:
    """Reads the times of events with an engine that counts nothing. Used from one thread."""

    def __init__(self, engine: Engine) -> None:
        """``engine`` has the mapping of the events and no rules."""
        self._engine = engine
        self._cached = lru_cache(_CACHED)(self._read)

    def of(self, line: bytes) -> int | None:
        """Returns the time of an event in microseconds; ``None`` if the line is not an event."""
        return self._cached(line)

    def _read(self, line: bytes) -> int | None:
        clock = self._engine.process_lines(line).clock
        self._engine.leave(0)
        return clock

    def earliest(self, lines: Iterable[bytes]) -> int | None:
        """Returns the earliest time in some lines; ``None`` if there is no event."""
        return min(self._all(lines), default=None)

    def at_start(self, text: bytes, start: int = 0) -> int | None:
        """Returns the earliest time in the first lines of a text, from ``start`` on."""
        return self.earliest(first_lines(text, start))

    def is_over(self, text: bytes, limit: int) -> bool:
        """Returns whether one of the last lines of a text is after ``limit``."""
        return any(time > limit for time in self._all(last_lines(text)))

    def end(self, text: bytes, start: int, limit: int) -> int:
        """Returns the end of the lines from ``start`` on that are not after ``limit``, but at least of one line.

        The lines are nearly in order. Lines after ``limit`` that earlier ones follow belong to the result.
        """
        below, above, step = start, len(text), _STEP
        while below + step < above:
            line = text.find(b"\n", below + step) + 1 or len(text)
            if self._is_after(text, line, limit):
                above = line
                break
            below, step = line, 2 * step
        while True:
            line = text.find(b"\n", (below + above) // 2, above - 1) + 1 or text.find(b"\n", below, above - 1) + 1
            if not line:
                return above
            if self._is_after(text, line, limit):
                above = line
            else:
                below = line

    def _is_after(self, text: bytes, start: int, limit: int) -> bool:
        time = self.at_start(text, start)
        return time is not None and time > limit

    def _all(self, lines: Iterable[bytes]) -> Iterator[int]:
        times = map(self.of, lines)
        return (time for time in times if time is not None)
