"""Partitions in step: what was fetched of several is handed over in the order of its time, not partition by partition.

The watermark is that of the slowest partition, so a partition that is read ahead of the others brings events far out of
order: exact all the same, but slow to count. A backlog is where it matters, when a fetch holds minutes or hours. So
fetches wait here in pieces, and the piece with the earliest timestamp goes first; one that is later than what a lagging
partition may still bring waits for that partition, though not for long. (Flink calls this watermark alignment.)

The time is the records' timestamp, which is near the event time unless a topic was filled afterwards, partition by
partition: then this does nothing, and all is as if it were not here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

from kafka import TopicPartition

Content = TypeVar("Content")

APART_MS = 2000
"""How far a partition may run ahead of one that is waited for."""
PATIENCE = 1.0
"""Seconds for which a lagging partition that brings nothing is waited for."""


@dataclass(frozen=True)
class QueuedItem(Generic[Content]):
    """Something a partition brought, in the order it came."""

    content: Content
    next_offset: int
    latest_ms: int
    bytes: int


@dataclass
class _PartitionQueue(Generic[Content]):
    """A partition's queue."""

    queue: deque[QueuedItem[Content]] = field(default_factory=deque)
    bytes: int = 0
    reached_ms: int = -1
    """The latest timestamp handed over."""
    empty_since: float = 0.0


class WatermarkAlignment(Generic[Content]):
    """The queues of all partitions that are this consumer's."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """``clock`` counts seconds and never goes back."""
        self._clock = clock
        self._lanes: dict[TopicPartition, _PartitionQueue[Content]] = {}

    def join(self, partition: TopicPartition) -> None:
        """A partition that may be waited for from now on."""
        self._lanes.setdefault(partition, _PartitionQueue(empty_since=self._clock()))

    def leave(self, partition: TopicPartition) -> None:
        """Drops a partition with all that waits: whoever has it next reads that again."""
        self._lanes.pop(partition, None)

    def add(self, partition: TopicPartition, brought: Iterable[QueuedItem[Content]]) -> None:
        """Lines up what a partition brought."""
        self.join(partition)
        lane = self._lanes[partition]
        for one in brought:
            lane.queue.append(one)
            lane.bytes += one.bytes

    def take(self, lags: Callable[[TopicPartition], bool]) -> list[tuple[TopicPartition, QueuedItem[Content]]]:
        """What can be handed over now, in order. ``lags`` says of a partition whether it has more to bring."""
        taken: list[tuple[TopicPartition, QueuedItem[Content]]] = []
        now = self._clock()
        limit = min((self._limit(p, lane, now, lags) for p, lane in self._lanes.items()), default=0.0)
        fronts = [(lane.queue[0].latest_ms, partition) for partition, lane in self._lanes.items() if lane.queue]
        heapify(fronts)
        while fronts and fronts[0][0] <= limit:
            _, partition = heappop(fronts)
            lane = self._lanes[partition]
            one = lane.queue.popleft()
            lane.bytes -= one.bytes
            lane.reached_ms = max(lane.reached_ms, one.latest_ms)
            lane.empty_since = now
            taken.append((partition, one))
            if lane.queue:
                heappush(fronts, (lane.queue[0].latest_ms, partition))
            limit = min(limit, self._limit(partition, lane, now, lags))
        return taken

    def _limit(
        self,
        partition: TopicPartition,
        lane: _PartitionQueue[Content],
        now: float,
        lags: Callable[[TopicPartition], bool],
    ) -> float:
        """The latest time up to which others need not wait for this partition."""
        if lane.queue or now - lane.empty_since > PATIENCE or not lags(partition):
            return float("inf")
        return lane.reached_ms + APART_MS if lane.reached_ms >= 0 else -1

    def waiting_bytes(self, partition: TopicPartition) -> int:
        """How much of a partition waits."""
        lane = self._lanes.get(partition)
        return 0 if lane is None else lane.bytes
