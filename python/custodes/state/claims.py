"""Interface of a state store that workers share.

A *task* is the counting of one partition; its state moves between workers together with the partition. A worker claims
a task before it restores the state. Anything that an earlier claimant writes after that claim, unaware that it has lost
the partition, is ignored.
"""

from __future__ import annotations

from typing import Protocol

from custodes.state.folder import Folder


class StateStore(Protocol):
    """Stores the state of tasks where every worker can reach it. Raises ``KafkaError`` or ``OSError``."""

    def agree(self, name: str, proposal: str) -> str:
        """Returns the value that was first proposed under this name, by any worker; it never changes."""

    def claim(self, task: str) -> Folder:
        """Claims a task and returns its folder with the state of the previous claimant; later writes of that claimant
        are ignored."""

    def close(self) -> None: ...
