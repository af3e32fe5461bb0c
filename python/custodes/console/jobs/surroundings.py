"""What the page around an actor shows: how they stand among their peers, and who looks at the same records.

It reads the whole history, which may take longer than a page should: whoever asks is told to come again.
"""

from __future__ import annotations

from dataclasses import dataclass

from custodes.accounts.resource_scope import ResourceScope
from custodes.console.jobs.background import BackgroundCache
from custodes.console.jobs.network import SharedSubject, network
from custodes.history import History, Peers

PEERS_REACH = 7
"""Days before the newest event for which peers are compared."""
_DAY = 86_400_000_000


@dataclass(frozen=True)
class ActorSurroundings:
    """The whole page."""

    peers: Peers | None
    """``None`` where there is no peer group, or not all of it may be seen."""
    shared: list[SharedSubject]


class SurroundingsJob:
    """Works it out in the background."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._background = BackgroundCache(self._work_out, "around")

    def of(self, actor: str, reach: ResourceScope, newest: int | None) -> ActorSurroundings | None:
        """What is around an actor, as far as ``reach`` goes; ``None`` as long as it is being worked out.

        ``newest`` is the time of the newest event, in microseconds since the epoch.
        """
        day = None if newest is None else newest // _DAY * _DAY
        return self._background.of((actor, reach, day))

    def _work_out(self, asked: tuple[str, ResourceScope, int | None]) -> ActorSurroundings:
        actor, reach, day = asked
        within = reach.patterns
        profile = self._history.profile("actor", actor, within=within)
        shared = network(self._history, actor, profile.top_others, within)
        if not profile.peer_groups or day is None or not reach.is_everything:
            return ActorSurroundings(None, shared)
        return ActorSurroundings(self._history.peers(actor, profile.peer_groups[0], day - PEERS_REACH * _DAY), shared)
