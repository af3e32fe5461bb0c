"""An actor's peer comparison and shared records, computed in the background.

It reads the whole history, which may take longer than a page should: the page reloads itself until it is ready.
"""

from __future__ import annotations

from dataclasses import dataclass

from custodes.accounts.resource_scope import ResourceScope
from custodes.console.jobs.background import BackgroundCache
from custodes.console.jobs.network import SharedSubject, network
from custodes.history import History, Peers

PEERS_REACH = 7
"""Number of days before the newest event in which peers are compared."""
_DAY = 86_400_000_000


@dataclass(frozen=True)
class ActorSurroundings:
    """The page content."""

    peers: Peers | None
    """``None`` without a peer group, or if the visitor may not see all of it."""
    shared: list[SharedSubject]


class SurroundingsJob:
    """Computes surroundings in the background."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._background = BackgroundCache(self._work_out, "around")

    def of(self, actor: str, reach: ResourceScope, newest: int | None) -> ActorSurroundings | None:
        """Returns an actor's surroundings within the scope ``reach``, or ``None`` while they are computed.

        ``newest`` is the time of the newest event, in microseconds since the epoch.
        """
        day = None if newest is None else newest // _DAY * _DAY
        return self._background.of((actor, reach, day))

    def _work_out(self, key: tuple[str, ResourceScope, int | None]) -> ActorSurroundings:
        actor, reach, day = key
        within = reach.patterns
        profile = self._history.profile("actor", actor, within=within)
        shared = network(self._history, actor, profile.top_others, within)
        if not profile.peer_groups or day is None or not reach.is_everything:
            return ActorSurroundings(None, shared)
        return ActorSurroundings(self._history.peers(actor, profile.peer_groups[0], day - PEERS_REACH * _DAY), shared)
