"""Watermark alignment: fetched data of several partitions is delivered in the order of its time.

The watermark follows the slowest partition. A partition that is read ahead of the others delivers events far out of
order, which is exact but slow to count. This matters for a backlog, when one fetch holds minutes or hours. Fetches
therefore wait in a queue per partition, in pieces, and the piece with the earliest timestamp is delivered first. A
piece that is later than the next data of a lagging partition waits for that partition for a limited time. (Flink uses
the same term.)

The order follows the timestamps of the records, which are close to the event time unless a topic was filled afterwards,
partition by partition. In that case alignment has no effect.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

from kafka import TopicPartition

Content = TypeVar("Content")

APART_MS = 2000
"""Maximum lead of a partition over a lagging one, in milliseconds of record time."""
PATIENCE = 1.0
"""Seconds to wait for a lagging partition that has no data."""


@dataclass(frozen=True)
class QueuedItem(Generic[Content]):
    """A piece of fetched data."""

    content: Content
    next_offset: int
    leader_epoch: int
    """Leader epoch of the last record."""
    latest_ms: int
    bytes: int


@dataclass
class PartitionQueue(Generic[Content]):
    """The fetched data of one partition that is not delivered yet."""

    empty_since: float
    """Time of the creation, or of the last delivery, in seconds of the clock of :func:`take_aligned`."""
    items: deque[QueuedItem[Content]] = field(default_factory=deque)
    bytes: int = 0
    delivered_ms: int = -1
    """Largest timestamp delivered; -1 before the first delivery."""

    def add(self, items: Iterable[QueuedItem[Content]]) -> None:
        """Appends fetched data."""
        for item in items:
            self.items.append(item)
            self.bytes += item.bytes

    def pop(self, now: float) -> QueuedItem[Content]:
        """Removes and returns the first item."""
        item = self.items.popleft()
        self.bytes -= item.bytes
        self.delivered_ms = max(self.delivered_ms, item.latest_ms)
        self.empty_since = now
        return item


def take_aligned(
    queues: Mapping[TopicPartition, PartitionQueue[Content]], now: float, lags: Callable[[TopicPartition], bool]
) -> list[tuple[TopicPartition, QueuedItem[Content]]]:
    """Removes and returns the items that need not wait, in order.

    ``now`` is in seconds of a monotonic clock. ``lags`` returns whether the broker has more data of a partition.
    """
    taken: list[tuple[TopicPartition, QueuedItem[Content]]] = []
    limit = min((_limit(queue, now, lags, partition) for partition, queue in queues.items()), default=0.0)
    fronts = [(queue.items[0].latest_ms, partition) for partition, queue in queues.items() if queue.items]
    heapify(fronts)
    while fronts and fronts[0][0] <= limit:
        _, partition = heappop(fronts)
        queue = queues[partition]
        taken.append((partition, queue.pop(now)))
        if queue.items:
            heappush(fronts, (queue.items[0].latest_ms, partition))
        limit = min(limit, _limit(queue, now, lags, partition))
    return taken


def _limit(
    queue: PartitionQueue[Content], now: float, lags: Callable[[TopicPartition], bool], partition: TopicPartition
) -> float:
    """Returns the timestamp up to which other partitions need not wait for this one."""
    if queue.items or now - queue.empty_since > PATIENCE or not lags(partition):
        return float("inf")
    return queue.delivered_ms + APART_MS if queue.delivered_ms >= 0 else -1
