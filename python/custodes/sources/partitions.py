"""Partitions of one Kafka consumer: the state of each partition, and the steps from a fetch to messages.

Both Kafka sources use this: the single process (:mod:`.kafka`) and the worker (:mod:`.kafka_worker`). They differ in
where a partition starts and when it is idle.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata

from custodes.sources.client import FETCH_BYTES
from custodes.sources.consumer_group import GroupMember
from custodes.sources.fetches import Fetch, seek_in_log, topic_id_of
from custodes.sources.messages import (
    FIRST_LOG,
    FetchedBatches,
    GapCause,
    LogIdentity,
    RecordList,
    SourceMessage,
    StreamGap,
)
from custodes.sources.watermark_alignment import PartitionQueue, QueuedItem, take_aligned

GAP_CHECK_SECONDS = 1.0
"""Interval at which partitions without data are checked for a reset position."""
_COMMIT_AGAIN_SECONDS = 10.0
"""Interval at which unchanged offsets are committed again."""
MAX_QUEUED_BYTES = 2 * FETCH_BYTES
"""Bytes of a partition that may be queued for alignment; above this the partition is paused."""

FetchPart = tuple[Fetch, tuple[int, int]] | list[Any]
"""A span of a fetch, or records if kafka-python had to decode them."""


@dataclass
class PartitionState:
    """One partition that this consumer reads, or has read. Offsets are ``None`` until they are known."""

    partition: TopicPartition
    stream: int
    """The number of the partition's stream, constant for the life of the source."""
    log: LogIdentity = FIRST_LOG
    """The log of the offsets, with the leader epoch of the last delivered record."""
    is_assigned: bool = False
    awaits_start: bool = False
    """Whether the partition is paused until a start position is set."""
    fetch_offset: int | None = None
    """Next offset to fetch."""
    next_offset: int | None = None
    """Next offset to deliver."""
    processed: OffsetAndMetadata | None = None
    """Offset before which everything is processed and may be committed, with the identity of its log."""
    committed_offset: int | None = None
    """Last committed offset."""
    resume_at: int | None = None
    """Offset of a restored snapshot at which to start once the partition is assigned."""
    counted_until: int | None = None
    """Offset before which everything was counted when the partition was revoked."""
    queue: PartitionQueue[FetchPart] | None = None
    """Fetched data that waits for alignment; ``None`` if the partition is not aligned with others."""
    last_record_at: float = 0.0
    """Time of the last record, or of the assignment."""
    silent_seconds: float = 0.0
    """Seconds without records while the broker was reachable."""
    is_idle: bool = False
    revoked_at: float | None = None
    """Time of the revocation, until the partition is assigned again or has left."""

    @property
    def name(self) -> str:
        """The partition as ``topic/number``."""
        return f"{self.partition.topic}/{self.partition.partition}"

    @property
    def queued_bytes(self) -> int:
        return 0 if self.queue is None else self.queue.bytes

    def revoke(self) -> None:
        """Forgets positions and fetched data: the next owner reads the data again."""
        self.is_assigned = self.awaits_start = self.is_idle = False
        self.fetch_offset = self.next_offset = self.processed = self.committed_offset = None
        self.queue = None

    def begin_log(self, topic_id: str | None) -> None:
        """Begins the log that has replaced the one of the offsets."""
        self.log = LogIdentity(topic_id, number=self.log.number + 1)
        self.fetch_offset = self.next_offset = 0
        self.counted_until = self.processed = None


class PartitionedConsumer(ABC):
    """The partitions that one member of a consumer group reads."""

    finished = False

    def __init__(self, topics: Iterable[str]) -> None:
        self.name = f"kafka:{','.join(topics)}"
        self._states: dict[TopicPartition, PartitionState] = {}
        self._by_stream: dict[int, PartitionState] = {}
        self._changes: list[SourceMessage] = []
        """Messages of a rebalance, for the next poll."""
        self._checked_at = 0.0
        self._committed_at = 0.0
        """Time at which all offsets were last committed."""
        self._must_rejoin = False
        """Whether a topic was recreated: kafka-python 3.0.12 does not always fetch from a topic that it knew as another
        one (see docs/sources.md), so the next poll begins with a new consumer."""
        self._member: GroupMember

    @property
    def _consumer(self) -> Any:
        return self._member.consumer

    @property
    def paused(self) -> set[TopicPartition]:
        """The partitions that are not fetched at the moment."""
        return set() if self._consumer is None else set(self._consumer.paused())

    @property
    def connected(self) -> bool:
        return self._member.connected

    @abstractmethod
    def _position_reset(self, state: PartitionState, expected: int, position: int) -> None:
        """Updates the offsets of a partition that continues from another position than the expected one."""

    def _counted_until(self, state: PartitionState) -> int:
        """Returns the offset below which fetched records are already counted."""
        return state.counted_until or 0

    def _state(self, partition: TopicPartition, stream: int | None = None) -> PartitionState:
        """Returns the state of a partition; a new partition gets the next stream number."""
        if partition not in self._states:
            number = max(self._by_stream, default=-1) + 1 if stream is None else stream
            self._states[partition] = self._by_stream[number] = PartitionState(partition, number)
        return self._states[partition]

    def _assigned(self) -> list[PartitionState]:
        return [state for state in self._states.values() if state.is_assigned]

    def _fetched(self, state: PartitionState, records: list[Any]) -> Iterator[SourceMessage]:
        """Advances the fetch offset; yields a gap if the fetch starts elsewhere than expected."""
        first, last = records[0], records[-1]
        expected = state.fetch_offset
        begins = first.position if isinstance(first, Fetch) else first.offset if expected is None else expected
        if expected is not None and begins != expected:
            yield from self._gap(state, expected, begins)
        if state.next_offset is None:
            state.next_offset = max(begins, self._counted_until(state))
        position = None if isinstance(last, Fetch) else self._consumer.position(state.partition, timeout_ms=0)
        state.fetch_offset = last.offset + 1 if position is None else position

    def _check_for_gaps(self, fetched: Container[TopicPartition], now: float) -> Iterator[SourceMessage]:
        """Yields gaps of partitions without data whose position was reset."""
        self._checked_at = now
        for partition, state in self._states.items():
            expected = state.fetch_offset
            if expected is None or partition in fetched or self._consumer.highwater(partition) is None:
                continue
            position = self._consumer.position(partition, timeout_ms=0)
            if position is not None and position != expected:
                yield from self._gap(state, expected, position)

    def _gap(self, state: PartitionState, expected: int, position: int) -> Iterator[SourceMessage]:
        cause = GapCause.deleted
        if position < expected:
            # Without topic ids, an earlier position is the start of a recreated topic. With them, it is the point of
            # truncation, which kafka-python finds by the leader epoch.
            cause = GapCause.recreated if state.log.topic_id is None else GapCause.truncated
            yield from self._deliver_queue(state)
            state.log = LogIdentity(state.log.topic_id, number=state.log.number + 1)
        state.fetch_offset = position
        self._position_reset(state, expected, position)
        yield StreamGap(state.stream, expected, position, cause)

    def _is_recreated(self, state: PartitionState) -> bool:
        """Returns whether the broker has another topic under the name than the one of the partition's offsets."""
        known, now = state.log.topic_id, self._topic_id(state.partition.topic)
        return known is not None and now is not None and known != now

    def _topic_id(self, topic: str) -> str | None:
        """Returns the broker's id of a topic, and notes whether the consumer knew it as another one."""
        now = topic_id_of(self._consumer, topic)
        if now is not None and self._member.topic_ids.setdefault(topic, now) != now:
            self._must_rejoin = True
        return now

    def _go_on(self, state: PartitionState, position: int) -> StreamGap | None:
        """Continues an assigned partition at an offset of its log, or begins the log that has replaced it.

        The topic must be known to the consumer (:func:`knows_topic`).
        """
        if self._is_recreated(state):
            state.begin_log(self._topic_id(state.partition.topic))
            self._consumer.seek_to_beginning(state.partition)
            return StreamGap(state.stream, position, 0, GapCause.recreated)
        seek_in_log(self._consumer, state.partition, position, state.log.leader_epoch)
        state.next_offset = state.fetch_offset = position
        self._identify(state)
        return None

    def _identify(self, state: PartitionState) -> None:
        """Notes the topic id of a partition whose topic was not known yet."""
        if state.log.topic_id is None:
            state.log = replace(state.log, topic_id=self._topic_id(state.partition.topic))

    def _rejoin_if_needed(self) -> None:
        """Leaves the group if a topic was recreated, so that a new consumer joins."""
        if self._must_rejoin:
            self._must_rejoin = False
            self._member.leave_to_rejoin()

    def _find_recreated(self) -> Iterator[SourceMessage]:
        """Yields the rest of all fetched data if the topic of a partition was recreated; then a new consumer joins."""
        assigned = [state for state in self._assigned() if not state.awaits_start]
        for state in assigned:
            self._topic_id(state.partition.topic)
            self._identify(state)
        if self._must_rejoin:
            for state in assigned:
                yield from self._deliver_queue(state)

    def _deliver_queue(self, state: PartitionState) -> Iterator[SourceMessage]:
        """Yields the fetched data of a partition without waiting for other partitions."""
        if state.queue is not None and state.queue.items:
            now = time.monotonic()
            yield from self._deliver_items(state, [state.queue.pop(now) for _ in range(len(state.queue.items))])

    def _deliver_items(self, state: PartitionState, items: Sequence[QueuedItem[FetchPart]]) -> Iterator[SourceMessage]:
        counted_until = state.counted_until or 0
        state.next_offset = max(items[-1].next_offset, counted_until)
        if items[-1].leader_epoch != state.log.leader_epoch:
            state.log = replace(state.log, leader_epoch=items[-1].leader_epoch)
        yield from to_messages(state, [item.content for item in items], counted_until)

    def _deliver(self) -> Iterator[SourceMessage]:
        """Yields the data that need not wait for other partitions, and pauses partitions that are far ahead."""
        queues = {partition: state.queue for partition, state in self._states.items() if state.queue is not None}
        taken = take_aligned(queues, time.monotonic(), lambda partition: self._lag_of(self._states[partition]) != 0)
        for partition, run in groupby(taken, lambda pair: pair[0]):
            yield from self._deliver_items(self._states[partition], [item for _, item in run])
        assigned = self._assigned()
        self._member.pause_only(
            {state.partition for state in assigned if state.awaits_start or state.queued_bytes > MAX_QUEUED_BYTES}
        )

    def describe(self, stream: int) -> dict[str, str | int]:
        partition = self._by_stream[stream].partition
        return {"topic": partition.topic, "partition": partition.partition}

    def commit(self, streams: Container[int] | None = None) -> None:
        for state in self._assigned():
            if state.next_offset is not None and (streams is None or state.stream in streams):
                state.processed = OffsetAndMetadata(state.next_offset, state.log.topic_id or "", state.log.leader_epoch)
        self._commit_processed()

    def _commit_processed(self) -> None:
        """Commits the processed offsets, which after a failure are less than the delivered ones.

        Unchanged offsets are committed again at intervals: the broker's answer tells a member whose place another
        process has taken, which kafka-python does not.
        """
        now = time.monotonic()
        everything = now - self._committed_at > _COMMIT_AGAIN_SECONDS
        offsets = {
            state.partition: state.processed
            for state in self._assigned()
            if state.processed is not None and (everything or state.processed.offset != state.committed_offset)
        }
        self._committed_at = now if everything else self._committed_at
        if offsets and self._member.commit(offsets):
            for partition, processed in offsets.items():
                if (state := self._states[partition]).is_assigned:
                    state.committed_offset = processed.offset

    def lag(self) -> int | None:
        if self._consumer is None or not self._member.has_joined:
            return None
        lags = [self._lag_of(state) for state in self._assigned()]
        known = [lag for lag in lags if lag is not None]
        return sum(known) if len(known) == len(lags) else None

    def _lag_of(self, state: PartitionState) -> int | None:
        """Returns the number of records not delivered yet; ``None`` until a fetch has returned the end offset.

        A partition of unknown length may have a long backlog, so it must not count as idle.
        """
        end = self._consumer.highwater(state.partition)
        if end is None or state.awaits_start:
            return None
        position = state.next_offset
        if position is None:
            position = self._consumer.position(state.partition, timeout_ms=0)
        return None if position is None else max(0, int(end) - position)

    def close(self) -> None:
        self._member.close()


def queued_items(fetched: list[Any]) -> Iterator[QueuedItem[FetchPart]]:
    """Converts the result of a poll for one partition: pieces of whole fetches, or records decoded by kafka-python."""
    for whole, run in groupby(fetched, lambda record: isinstance(record, Fetch)):
        if whole:
            for fetch in run:
                for piece in fetch.pieces:
                    begin, end = piece.span
                    yield QueuedItem(
                        (fetch, piece.span), piece.next_offset, piece.leader_epoch, piece.latest_ms, end - begin
                    )
        else:
            records = list(run)
            size = sum(len(record.value or b"") for record in records)
            last = records[-1]
            yield QueuedItem(records, last.offset + 1, last.leader_epoch, last.timestamp or -1, size)


def to_messages(state: PartitionState, parts: list[FetchPart], counted_until: int) -> Iterator[SourceMessage]:
    """Converts the parts of one partition from ``counted_until`` on; pieces of one fetch are joined again."""
    stream, log = state.stream, state.log.number
    for fetch, run in groupby(parts, lambda part: part[0] if isinstance(part, tuple) else None):
        if fetch is None:
            for part in run:
                if isinstance(part, list) and (rest := [record for record in part if record.offset >= counted_until]):
                    yield RecordList(stream, rest, log)
        else:
            spans = [span for _, span in run]
            position = max(fetch.position, counted_until)
            yield FetchedBatches(stream, fetch.data, (spans[0][0], spans[-1][1]), position, fetch.aborted, log)
