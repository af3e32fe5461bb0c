"""Background computation for pages; a page that is not ready yet reloads itself."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Lock
from time import monotonic
from typing import Generic, TypeVar

_PATIENCE_SECONDS = 0.1
"""Time that a page waits for the result."""
_FRESH_SECONDS = 60.0
_MOST_KEPT = 64

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BackgroundCache(Generic[K, V]):
    """Computes values one at a time in a thread, and caches them for a minute. Thread-safe."""

    def __init__(self, work: Callable[[K], V], name: str) -> None:
        self._work = work
        self._lock = Lock()
        self._worker = ThreadPoolExecutor(1, name)
        self._known: OrderedDict[K, tuple[float, Future[V]]] = OrderedDict()

    def of(self, key: K) -> V | None:
        """Returns the value, or ``None`` while it is computed. Raises the exception of the computation."""
        with self._lock:
            begun, coming = self._known.get(key, (0.0, None))
            if coming is None or (coming.done() and monotonic() > begun + _FRESH_SECONDS):
                coming = self._worker.submit(self._work, key)
                self._known[key] = monotonic(), coming
            self._known.move_to_end(key)
            while len(self._known) > _MOST_KEPT:
                _, (_, evicted) = self._known.popitem(last=False)
                evicted.cancel()
        wait([coming], _PATIENCE_SECONDS)
        return coming.result() if coming.done() else None
