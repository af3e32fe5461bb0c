"""Retries: the delay after a failure of an operation before the next attempt.

The loops that retry must not block, so they ask whether an attempt is due instead of sleeping in a decorator. This is
why the class is not replaced by a library such as tenacity.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Retry:
    """Consecutive failures of one operation, and when it is due again: after ``first`` seconds, then twice as long each
    time, at most ``most`` seconds."""

    def __init__(self, first: float, most: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` returns seconds on any scale that only advances. Without ``most`` every delay is ``first``."""
        self._first = first
        self._most = first if most is None else most
        self._clock = clock
        self._due_at = float("-inf")
        self.failures = 0
        """Number of failures since the last success."""

    @property
    def delay(self) -> float:
        """Seconds between the last attempt and the next one; 0 after a success."""
        if not self.failures:
            return 0.0
        # The exponent is bounded because failures can go on for days.
        return float(min(self._first * 2 ** min(self.failures - 1, 20), self._most))

    @property
    def seconds_left(self) -> float:
        """Seconds until an attempt is due; 0 if it is."""
        return max(0.0, self._due_at - self._clock())

    def is_due(self) -> bool:
        """Returns whether the operation may be attempted now."""
        return self._clock() >= self._due_at

    def retry_now(self) -> None:
        """Makes the next attempt due at once."""
        self._due_at = float("-inf")

    def failed(self) -> bool:
        """Records a failed attempt. Returns whether it is the first since a success, which is the one to log."""
        self.failures += 1
        self._due_at = self._clock() + self.delay
        return self.failures == 1

    def succeeded(self) -> bool:
        """Records a success. Returns whether it ends a series of failures."""
        had_failed = self.failures > 0
        self.failures = 0
        self._due_at = float("-inf")
        return had_failed
