"""What workers that share a group of partitions need of a place to keep their state in.

A *task* is the counting that goes with one partition; its state goes from worker to worker with it. Whoever has a task
claims it first. From then on, what an earlier claimant still writes, not knowing yet that it has lost the partition, is
nobody's state.
"""

from __future__ import annotations

from typing import Protocol

from custodes.state.folder import Folder


class StateStore(Protocol):
    """Keeps the state of tasks where every worker can reach it. Raises ``KafkaError`` or ``OSError`` as it comes."""

    def agree(self, name: str, proposal: str) -> str:
        """What the first worker ever to ask has proposed under this name: the same for all, for good."""

    def claim(self, task: str) -> Folder:
        """The task's folder, with what the last claimant left; what others write after this is not in anybody's."""

    def close(self) -> None: ...
