"""Partitions are read in timestamp order: earliest first, waiting for a lagging one for a limited time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from kafka import TopicPartition

from custodes.sources.watermark_alignment import APART_MS, PATIENCE, QueuedItem, WatermarkAlignment

A, B, C = (TopicPartition("access", n) for n in range(3))


class FakeClock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def pieces(*times: int) -> list[QueuedItem[int]]:
    return [QueuedItem(time, n, time, 10) for n, time in enumerate(times)]


def order(taken: list[tuple[TopicPartition, QueuedItem[int]]]) -> list[tuple[TopicPartition, int]]:
    return [(partition, waiting.content) for partition, waiting in taken]


def test_the_earliest_partition_is_delivered_first() -> None:
    step: WatermarkAlignment[int] = WatermarkAlignment(FakeClock())
    step.add(A, pieces(1000, 3000, 5000))
    step.add(B, pieces(2000, 2500, 9000))
    assert order(step.take(lambda _: False)) == [(A, 1000), (B, 2000), (B, 2500), (A, 3000), (A, 5000), (B, 9000)]


def test_events_far_ahead_of_a_lagging_partition_wait() -> None:
    step: WatermarkAlignment[int] = WatermarkAlignment(FakeClock())
    step.add(A, pieces(1000, 1000 + APART_MS, 1001 + APART_MS))
    step.add(B, pieces(1000))
    assert order(step.take(lambda partition: partition == B)) == [(A, 1000), (B, 1000), (A, 1000 + APART_MS)]
    assert (step.waiting_bytes(A), step.waiting_bytes(B)) == (10, 0)
    assert step.take(lambda partition: partition == B) == []
    step.add(B, pieces(1500))
    assert order(step.take(lambda partition: partition == B)) == [(B, 1500), (A, 1001 + APART_MS)]


def test_alignment_waits_for_a_partition_without_data() -> None:
    clock = FakeClock()
    step: WatermarkAlignment[int] = WatermarkAlignment(clock)
    step.join(B)
    step.add(A, pieces(1000))
    assert step.take(lambda _: True) == []
    step.add(B, pieces(5))
    assert order(step.take(lambda partition: partition == A)) == [(B, 5), (A, 1000)]


def test_alignment_waits_for_a_limited_time() -> None:
    clock = FakeClock()
    step: WatermarkAlignment[int] = WatermarkAlignment(clock)
    step.join(B)
    step.add(A, pieces(1000))
    clock.now += PATIENCE
    assert step.take(lambda _: True) == []
    clock.now += 0.001
    assert order(step.take(lambda _: True)) == [(A, 1000)]


def test_alignment_ignores_a_revoked_partition() -> None:
    step: WatermarkAlignment[int] = WatermarkAlignment(FakeClock())
    step.add(A, pieces(1000, 9000))
    step.join(B)
    step.leave(B)
    assert order(step.take(lambda partition: partition != A)) == [(A, 1000), (A, 9000)]
    step.add(A, pieces(10_000))
    step.leave(A)
    assert step.take(lambda _: False) == []
    assert step.waiting_bytes(A) == 0


def test_without_timestamps_nothing_waits() -> None:
    step: WatermarkAlignment[int] = WatermarkAlignment(FakeClock())
    step.join(B)
    step.add(A, pieces(-1, -1))
    assert len(step.take(lambda _: True)) == 2


@given(
    st.lists(
        st.tuples(st.sampled_from([A, B, C]), st.lists(st.integers(0, 20_000), min_size=1, max_size=4)), max_size=20
    ),
    st.lists(st.booleans(), min_size=1, max_size=20),
)
def test_everything_is_delivered_once_and_in_partition_order(
    brought: list[tuple[TopicPartition, list[int]]], lagging: list[bool]
) -> None:
    step: WatermarkAlignment[int] = WatermarkAlignment(FakeClock())
    handed_over: list[tuple[TopicPartition, int]] = []
    for n, (partition, times) in enumerate(brought):
        step.add(partition, pieces(*times))
        handed_over += order(step.take(lambda p, n=n: lagging[(n + p.partition) % len(lagging)]))  # type: ignore[misc]
    handed_over += order(step.take(lambda _: False))
    for partition in (A, B, C):
        assert [time for p, time in handed_over if p == partition] == [
            time for p, times in brought if p == partition for time in times
        ]
    assert all(step.waiting_bytes(partition) == 0 for partition in (A, B, C))
