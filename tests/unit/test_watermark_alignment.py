"""Partitions are read in timestamp order: earliest first, waiting for a lagging one for a limited time."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from kafka import TopicPartition

from custodes.sources.watermark_alignment import APART_MS, PATIENCE, PartitionQueue, QueuedItem, take_aligned

A, B, C = (TopicPartition("access", n) for n in range(3))


class Queues:
    """The queues of several partitions, with a simulated clock."""

    def __init__(self, *partitions: TopicPartition) -> None:
        self.now = 100.0
        self.of = {partition: PartitionQueue[int](self.now) for partition in partitions}

    def add(self, partition: TopicPartition, items: list[QueuedItem[int]]) -> None:
        self.of.setdefault(partition, PartitionQueue(self.now)).add(items)

    def take(self, lags: Callable[[TopicPartition], bool]) -> list[tuple[TopicPartition, QueuedItem[int]]]:
        return take_aligned(self.of, self.now, lags)


def pieces(*times: int) -> list[QueuedItem[int]]:
    return [QueuedItem(time, n, 0, time, 10) for n, time in enumerate(times)]


def order(taken: list[tuple[TopicPartition, QueuedItem[int]]]) -> list[tuple[TopicPartition, int]]:
    return [(partition, waiting.content) for partition, waiting in taken]


def test_the_earliest_partition_is_delivered_first() -> None:
    queues = Queues()
    queues.add(A, pieces(1000, 3000, 5000))
    queues.add(B, pieces(2000, 2500, 9000))
    assert order(queues.take(lambda _: False)) == [(A, 1000), (B, 2000), (B, 2500), (A, 3000), (A, 5000), (B, 9000)]


def test_events_far_ahead_of_a_lagging_partition_wait() -> None:
    queues = Queues()
    queues.add(A, pieces(1000, 1000 + APART_MS, 1001 + APART_MS))
    queues.add(B, pieces(1000))
    assert order(queues.take(lambda partition: partition == B)) == [(A, 1000), (B, 1000), (A, 1000 + APART_MS)]
    assert (queues.of[A].bytes, queues.of[B].bytes) == (10, 0)
    assert queues.take(lambda partition: partition == B) == []
    queues.add(B, pieces(1500))
    assert order(queues.take(lambda partition: partition == B)) == [(B, 1500), (A, 1001 + APART_MS)]


def test_alignment_waits_for_a_partition_without_data() -> None:
    queues = Queues(B)
    queues.add(A, pieces(1000))
    assert queues.take(lambda _: True) == []
    queues.add(B, pieces(5))
    assert order(queues.take(lambda partition: partition == A)) == [(B, 5), (A, 1000)]


def test_alignment_waits_for_a_limited_time() -> None:
    queues = Queues(B)
    queues.add(A, pieces(1000))
    queues.now += PATIENCE
    assert queues.take(lambda _: True) == []
    queues.now += 0.001
    assert order(queues.take(lambda _: True)) == [(A, 1000)]


def test_alignment_ignores_a_revoked_partition() -> None:
    queues = Queues()
    queues.add(A, pieces(1000, 9000))
    queues.add(B, [])
    del queues.of[B]
    assert order(queues.take(lambda partition: partition != A)) == [(A, 1000), (A, 9000)]
    queues.add(A, pieces(10_000))
    del queues.of[A]
    assert queues.take(lambda _: False) == []


def test_without_timestamps_nothing_waits() -> None:
    queues = Queues(B)
    queues.add(A, pieces(-1, -1))
    assert len(queues.take(lambda _: True)) == 2


@given(
    st.lists(
        st.tuples(st.sampled_from([A, B, C]), st.lists(st.integers(0, 20_000), min_size=1, max_size=4)), max_size=20
    ),
    st.lists(st.booleans(), min_size=1, max_size=20),
)
def test_everything_is_delivered_once_and_in_partition_order(
    brought: list[tuple[TopicPartition, list[int]]], lagging: list[bool]
) -> None:
    queues = Queues()
    handed_over: list[tuple[TopicPartition, int]] = []
    for n, (partition, times) in enumerate(brought):
        queues.add(partition, pieces(*times))
        handed_over += order(queues.take(lambda p, n=n: lagging[(n + p.partition) % len(lagging)]))  # type: ignore[misc]
    handed_over += order(queues.take(lambda _: False))
    for partition in (A, B, C):
        assert [time for p, time in handed_over if p == partition] == [
            time for p, times in brought if p == partition for time in times
        ]
    assert all(queue.bytes == 0 for queue in queues.of.values())
