"""Events from Kafka for one of several workers that share the partitions.

The group assigns and revokes single partitions (cooperative rebalancing). An assigned partition is paused until
:meth:`PartitionedKafkaSource.begin` sets its start position, because its state has to be fetched first. Before a
revocation, the owner of the state is asked to save it. In addition to the topics of events, the workers share the
partitions of the repartition topic, through which they exchange events.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from kafka import TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import KafkaError, TopicAlreadyExistsError
from kafka.structs import OffsetAndMetadata

from custodes.config.model import KafkaSourceSettings as KafkaSettings
from custodes.config.model import WorkersSettings
from custodes.log_events import PartitionsAssigned, PartitionsLost, PartitionsRevoked, TopicsMissing
from custodes.sources.client import CONNECT_MS, client
from custodes.sources.consumer_group import GroupMember, partition_names
from custodes.sources.fetches import knows_topic
from custodes.sources.messages import (
    LogIdentity,
    RepartitionRecords,
    SourceMessage,
    StreamJoined,
    StreamLeft,
    StreamPosition,
)
from custodes.sources.partitions import GAP_CHECK_SECONDS, PartitionedConsumer, PartitionState, queued_items
from custodes.sources.repartition import LARGEST_RECORD
from custodes.sources.watermark_alignment import PartitionQueue

_LONGEST_ROUND = 1.0
"""Seconds of one round that count as silence at most."""
_WEEK_MS = 7 * 86_400 * 1000


class PartitionedKafkaSource(PartitionedConsumer):
    """Reads the partitions of one worker."""

    def __init__(self, settings: KafkaSettings, workers: WorkersSettings, idle_after: float, worker: str) -> None:
        """``worker`` names this member of the group, so that it gets its partitions back at once after a restart."""
        super().__init__(settings.topics)
        self.before_leaving: Callable[[Sequence[int]], None] = lambda streams: None
        """Called in any thread with streams that are about to be revoked, while this worker still owns them."""
        self._settings, self._workers = settings, workers
        self._idle_after = idle_after
        self._member = GroupMember(settings, worker, self, partition_assignment_strategy=[CooperativeStickyAssignor])
        self._polled_at = 0.0

    def _join(self) -> None:
        """Joins the group if the topics exist."""
        repartition = self._workers.repartition_topic
        if self._create_topics():
            self._member.connect([*self._settings.topics, repartition], one_by_one={repartition})

    def _create_topics(self) -> bool:
        """Creates the internal topics that are missing. Returns whether the topics of events exist."""
        settings, workers = self._settings, self._workers
        admin = client(KafkaAdminClient, settings, client_id="custodes", bootstrap_timeout_ms=CONNECT_MS)
        try:
            known = {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics()}
            if missing := [topic for topic in settings.topics if not known.get(topic)]:
                TopicsMissing(topics=missing).emit()
                return False
            most = max(known[topic] for topic in settings.topics)
            partitions = workers.partitions or most
            repartition = {"max.message.bytes": str(LARGEST_RECORD), "retention.ms": str(_WEEK_MS)}
            internal = [NewTopic(workers.repartition_topic, partitions, topic_configs=repartition)]
            if workers.state_store is None:
                state = {
                    "cleanup.policy": "compact",
                    "segment.bytes": str(64 << 20),
                    "min.cleanable.dirty.ratio": "0.1",
                }
                internal.append(NewTopic(workers.state_topic, max(most, partitions), topic_configs=state))
            if new := [topic for topic in internal if not known.get(topic.name)]:
                admin.create_topics(new)
        except TopicAlreadyExistsError:
            """Another worker created it first."""
        finally:
            admin.close()
        return True

    def poll(self, timeout: float) -> list[SourceMessage | RepartitionRecords]:
        self._rejoin_if_needed()
        if self._consumer is None:
            self._member.try_to_join(self._join, timeout)
            return []
        fetched = self._member.poll(timeout)
        messages: list[SourceMessage | RepartitionRecords] = [*self._changes]
        self._changes = []
        if self._consumer is None:
            return messages
        now = time.monotonic()
        for partition, records in fetched.items():
            state = self._state(partition)
            if state.is_assigned and not state.awaits_start:
                messages += self._receive(state, records)
        if now - self._checked_at > GAP_CHECK_SECONDS:
            messages += self._check_for_gaps(fetched, now)
            messages += self._find_recreated()
        messages += self._deliver()
        self._find_idle(min(now - self._polled_at, _LONGEST_ROUND))
        self._polled_at = now
        return messages

    def _receive(self, state: PartitionState, records: list[Any]) -> Iterator[SourceMessage | RepartitionRecords]:
        state.silent_seconds, state.is_idle = 0.0, False
        yield from self._fetched(state, records)
        if state.queue is None:
            yield RepartitionRecords(state.stream, [(record.offset, record.value) for record in records])
            state.next_offset = state.fetch_offset
            state.log = replace(state.log, leader_epoch=records[-1].leader_epoch)
        else:
            state.queue.add(queued_items(records))

    def _position_reset(self, state: PartitionState, expected: int, position: int) -> None:
        state.next_offset = position

    def _find_idle(self, seconds: float) -> None:
        """Adds to the silence of partitions without records.

        Time while no broker was reachable or the process was suspended does not count.
        """
        for state in self._assigned():
            if state.awaits_start or not self.connected or self._lag_of(state) != 0:
                state.silent_seconds = 0.0
            else:
                state.silent_seconds += seconds
                state.is_idle = state.is_idle or state.silent_seconds > self._idle_after

    @property
    def _joined(self) -> Any:
        """The consumer. Raises ``KafkaError`` if it is not connected."""
        if self._consumer is None:
            raise KafkaError("no broker answers")
        return self._consumer

    def begin(self, stream: int, place: StreamPosition | None) -> int:
        """Starts an assigned partition at a saved position, by default at the committed one. Returns the position,
        which is 0 if the topic was recreated since it was saved."""
        consumer, state = self._joined, self._by_stream[stream]
        if not state.is_assigned:
            raise KafkaError(f"{state.name} is not assigned")
        if not knows_topic(consumer, state.partition.topic):
            raise KafkaError(f"no broker has described {state.partition.topic} yet")
        if place is not None:
            state.log = place.log
            if (gap := self._go_on(state, place.position)) is not None:
                self._changes.append(gap)
        else:
            # Not the consumer's own position: what was read before another worker claimed the partition, without a
            # snapshot, is read again.
            committed = self._committed(state.partition)
            state.log = LogIdentity(self._topic_id(state.partition.topic), committed.leader_epoch)
            self._go_on(state, committed.offset)
        state.awaits_start = False
        # Data that is still queued was fetched before another worker claimed the partition.
        state.queue = None if self.is_share(stream) else PartitionQueue(time.monotonic())
        consumer.resume(state.partition)
        return state.next_offset or 0

    def place(self, stream: int) -> StreamPosition:
        """Returns the position of the next record of a partition."""
        state = self._by_stream[stream]
        return StreamPosition(stream, state.name, state.next_offset or 0, log=state.log)

    def is_share(self, stream: int) -> bool:
        """Returns whether the stream is a partition of the repartition topic."""
        return bool(self._by_stream[stream].partition.topic == self._workers.repartition_topic)

    def is_idle(self, stream: int) -> bool:
        """Returns whether the stream has been silent long enough to be ignored by the watermark."""
        state = self._by_stream[stream]
        return state.is_assigned and state.is_idle

    def still_ours(self, stream: int) -> bool:
        """Asks the group whether this worker still owns the partition.

        The broker refuses commits of a member of an earlier generation.
        """
        state = self._by_stream[stream]
        if not state.is_assigned:
            return False
        refusal = self._member.try_to_commit({state.partition: self._committed(state.partition)})
        return refusal is None and state.is_assigned

    def _committed(self, partition: TopicPartition) -> OffsetAndMetadata:
        """Returns the committed offset, or that of the first record if there is none."""
        committed = self._joined.committed(partition, metadata=True, timeout_ms=CONNECT_MS)
        if committed is None:
            first = self._joined.beginning_offsets([partition], timeout_ms=CONNECT_MS)[partition]
            committed = OffsetAndMetadata(first, "", -1)
        return committed

    def event_partitions(self) -> list[str]:
        """Returns all source partitions, those of other workers included."""
        partitions = [(topic, self._joined.partitions_for_topic(topic) or ()) for topic in self._settings.topics]
        return [f"{topic}/{number}" for topic, numbers in partitions for number in sorted(numbers)]

    def shares(self) -> int:
        """Returns the number of partitions of the repartition topic."""
        topic = self._workers.repartition_topic
        partitions = self._joined.partitions_for_topic(topic)
        if not partitions:
            raise KafkaError(f"no broker returned the number of partitions of {topic}")
        return len(partitions)

    def assigned(self, partitions: list[TopicPartition]) -> None:
        for state in [self._state(partition) for partition in partitions]:
            state.revoke()
            state.silent_seconds = 0.0
            state.is_assigned = state.awaits_start = True
            self._consumer.pause(state.partition)
            self._changes.append(StreamJoined(state.stream))
        PartitionsAssigned(partitions=partition_names(partitions)).emit()

    def revoked(self, partitions: list[TopicPartition], *, lost: bool) -> None:
        states = [state for state in self._assigned() if state.partition in partitions]
        if not lost:
            self.before_leaving([state.stream for state in states])
        for state in states:
            state.revoke()
            self._changes.append(StreamLeft(state.stream))
        revoked = partition_names(state.partition for state in states)
        (PartitionsLost if lost else PartitionsRevoked)(partitions=revoked).emit()
