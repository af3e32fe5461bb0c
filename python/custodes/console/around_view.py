"""What the page around an actor shows: how they stand among their peers, and who looks at the same records.

It reads the whole history, which may take longer than a page should: whoever asks is told to come again.
"""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Lock
from time import monotonic

from custodes.accounts.reach import Reach
from custodes.console.network import Shared, network
from custodes.history import History, Peers

PEERS_REACH = 7
"""Days before the newest event for which peers are compared."""
_DAY = 86_400_000_000
_PATIENCE_SECONDS = 0.1
"""For so long a page waits."""
_FRESH_SECONDS = 60.0
_MOST_KEPT = 64


@dataclass(frozen=True)
class AroundView:
    """The whole page."""

    peers: Peers | None
    """``None`` where there is no peer group, or not all of it may be seen."""
    shared: list[Shared]


class Surroundings:
    """Works it out, one actor after the other, and keeps it for a minute. Used from any thread."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._lock = Lock()
        self._worker = ThreadPoolExecutor(1, "around")
        self._known: OrderedDict[tuple[str, Reach], tuple[float, Future[AroundView]]] = OrderedDict()

    def of(self, actor: str, reach: Reach, newest: int | None) -> AroundView | None:
        """What is around an actor, as far as ``reach`` goes; ``None`` as long as it is being worked out."""
        key = actor, reach
        with self._lock:
            begun, coming = self._known.get(key, (0.0, None))
            if coming is None or (coming.done() and (coming.exception() or monotonic() > begun + _FRESH_SECONDS)):
                coming = self._worker.submit(self._work_out, actor, reach, newest)
                self._known[key] = monotonic(), coming
            self._known.move_to_end(key)
            while len(self._known) > _MOST_KEPT:
                _, (_, forgotten) = self._known.popitem(last=False)
                forgotten.cancel()
        wait([coming], _PATIENCE_SECONDS)
        return coming.result() if coming.done() else None

    def _work_out(self, actor: str, reach: Reach, newest: int | None) -> AroundView:
        within = reach.patterns
        profile = self._history.profile("actor", actor, within=within)
        shared = network(self._history, actor, profile.top_others, within)
        if not profile.peer_groups or newest is None or not reach.is_everything:
            return AroundView(None, shared)
        return AroundView(self._history.peers(actor, profile.peer_groups[0], newest - PEERS_REACH * _DAY), shared)
