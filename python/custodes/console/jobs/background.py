"""What takes longer to work out than a page should: whoever asks is told to come again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Lock
from time import monotonic
from typing import Generic, TypeVar

_PATIENCE_SECONDS = 0.1
"""For so long a page waits."""
_FRESH_SECONDS = 60.0
_MOST_KEPT = 64

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BackgroundCache(Generic[K, V]):
    """Works things out, one after the other, and keeps them for a minute. Used from any thread."""

    def __init__(self, work: Callable[[K], V], name: str) -> None:
        self._work = work
        self._lock = Lock()
        self._worker = ThreadPoolExecutor(1, name)
        self._known: OrderedDict[K, tuple[float, Future[V]]] = OrderedDict()

    def of(self, key: K) -> V | None:
        """What was worked out; ``None`` as long as it is not. Raises what went wrong with it."""
        with self._lock:
            begun, coming = self._known.get(key, (0.0, None))
            if coming is None or (coming.done() and monotonic() > begun + _FRESH_SECONDS):
                coming = self._worker.submit(self._work, key)
                self._known[key] = monotonic(), coming
            self._known.move_to_end(key)
            while len(self._known) > _MOST_KEPT:
                _, (_, forgotten) = self._known.popitem(last=False)
                forgotten.cancel()
        wait([coming], _PATIENCE_SECONDS)
        return coming.result() if coming.done() else None
