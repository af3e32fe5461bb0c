"""Notifies the console, in its own event loop, of changes in the monitor."""

from __future__ import annotations

import asyncio
import threading


class ChangeNotifier:
    """A version that increases with every change, and coroutines that wait for it. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._version = 0
        self.closed = False
        self._waiting: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    @property
    def version(self) -> int:
        return self._version

    def publish(self) -> None:
        """Wakes all waiting coroutines."""
        with self._lock:
            self._version += 1
            waiting, self._waiting = self._waiting, {}
        for event, loop in waiting.items():
            # A loop that was just closed has no waiting coroutine.
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

    def close(self) -> None:
        """Wakes all waiting coroutines for the last time."""
        self.closed = True
        self.publish()

    async def wait(self, seen: int, timeout: float) -> int:
        """Returns the version once it exceeds ``seen``, or after ``timeout`` seconds."""
        event = asyncio.Event()
        with self._lock:
            if self._version > seen:
                return self._version
            self._waiting[event] = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                await event.wait()
        except TimeoutError:
            with self._lock:
                self._waiting.pop(event, None)
        return self._version
