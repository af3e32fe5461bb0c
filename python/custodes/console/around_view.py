"""What the page around an actor shows: how they stand among their peers, and who looks at the same records."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from markupsafe import Markup

from custodes.console.network import Shared, network, network_picture
from custodes.console.parts import Parts
from custodes.console.visitors import Visitor
from custodes.history import History, Peers

PEERS_REACH = 7
"""Days before the newest event for which peers are compared."""
_DAY = 86_400_000_000


@dataclass(frozen=True)
class AroundView:
    """The whole page."""

    peers: Peers | None
    """``None`` where there is no peer group, or not all of it may be seen."""
    shared: list[Shared]
    picture: Markup


def around_view(parts: Parts, history: History, actor: str, visitor: Visitor) -> AroundView:
    """Reads it, as ``visitor`` may see it."""
    within = visitor.reach.patterns
    profile = history.profile("actor", actor, within=within)
    newest = parts.monitor.status.newest
    peers = None
    with ThreadPoolExecutor(1, "around") as other:
        asked = other.submit(network, history, actor, profile.top_others, within)
        if profile.peer_groups and newest is not None and visitor.reach.is_everything:
            peers = history.peers(actor, profile.peer_groups[0], newest - PEERS_REACH * _DAY)
        shared = asked.result()
    return AroundView(peers, shared, network_picture(actor, shared, parts.naming(visitor).pseudonym))
