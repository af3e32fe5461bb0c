"""Events from Kafka as one of several workers that share the partitions.

The group gives partitions and takes them away one by one (cooperative rebalancing). A partition waits until it is told
where to begin, since its state has to be fetched first; and before one goes, whoever has its state is told to save it.
Beside the topics of events the workers share the partitions of the repartition topic, by which they hand events on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
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
from custodes.sources.consumer_group import GroupMember, spoken
from custodes.sources.fetches import Fetch
from custodes.sources.kafka import LOOK_EVERY, MOST_WAITING, FetchPart, arrivals, waiting
from custodes.sources.messages import RepartitionRecords, SourceMessage, StreamGap, StreamJoined, StreamLeft
from custodes.sources.repartition import LARGEST_RECORD
from custodes.sources.watermark_alignment import WatermarkAlignment

_LONGEST_ROUND = 1.0
"""Seconds of a round that count as silence."""
_WEEK_MS = 7 * 86_400 * 1000


@dataclass
class _AssignedPartition:
    """A partition that the group has given this worker."""

    stream: int
    silent: float = 0.0
    """Seconds for which it was asked for more and had nothing."""
    next_offset: int | None = None
    """The first not handed over; ``None`` until it is told where to begin."""
    reached: int = 0
    """The first not fetched."""
    committed: int | None = None
    is_idle: bool = False


class PartitionedKafkaSource:
    """One worker's consumer."""

    def __init__(self, settings: KafkaSettings, workers: WorkersSettings, idle_after: float, worker: str) -> None:
        """``worker`` names this member of the group, so that it has its partitions back at once after a restart."""
        self.name = f"kafka:{','.join(settings.topics)}"
        self.before_leaving: Callable[[Sequence[int]], None] = lambda streams: None
        """Hears which streams are about to be another worker's, while they are still this one's; in whatever thread."""
        self._settings, self._workers = settings, workers
        self._idle_after = idle_after
        self._member = GroupMember(
            settings, worker, self, patience_ms=CONNECT_MS, partition_assignment_strategy=[CooperativeStickyAssignor]
        )
        self._streams: dict[TopicPartition, int] = {}
        self._partitions: dict[int, TopicPartition] = {}
        self._held: dict[TopicPartition, _AssignedPartition] = {}
        self._moved: list[SourceMessage] = []
        self._in_step: WatermarkAlignment[FetchPart] = WatermarkAlignment(time.monotonic)
        self._looked_at = self._polled_at = 0.0

    @property
    def _consumer(self) -> Any:
        return self._member.consumer

    def _join(self) -> None:
        """Joins the group, if the topics are there."""
        internal = self._workers.repartition_topic
        if self._make_topics():
            self._member.connect([*self._settings.topics, internal], one_by_one={internal})

    def _make_topics(self) -> bool:
        """Makes the topics that workers need among them, if they are not there. Returns whether they are."""
        settings, workers = self._settings, self._workers
        admin = client(KafkaAdminClient, settings, client_id="custodes", bootstrap_timeout_ms=CONNECT_MS)
        try:
            known = {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics()}
            if missing := [topic for topic in settings.topics if not known.get(topic)]:
                TopicsMissing(topics=missing).emit()
                return False
            most = max(known[topic] for topic in settings.topics)
            partitions = workers.partitions or most
            handing = {"max.message.bytes": str(LARGEST_RECORD), "retention.ms": str(_WEEK_MS)}
            wanted = [NewTopic(workers.repartition_topic, partitions, topic_configs=handing)]
            if workers.state_store is None:
                state = {
                    "cleanup.policy": "compact",
                    "segment.bytes": str(64 << 20),
                    "min.cleanable.dirty.ratio": "0.1",
                }
                wanted.append(NewTopic(workers.state_topic, max(most, partitions), topic_configs=state))
            if wanted := [topic for topic in wanted if not known.get(topic.name)]:
                admin.create_topics(wanted)
        except TopicAlreadyExistsError:
            """Another worker was quicker."""
        finally:
            admin.close()
        return True

    def poll(self, timeout: float) -> list[SourceMessage | RepartitionRecords]:
        if self._consumer is None:
            self._member.try_to_join(self._join, timeout)
            return []
        fetched = self._member.poll(timeout)
        came: list[SourceMessage | RepartitionRecords] = [*self._moved]
        self._moved = []
        if self._consumer is None:
            return came
        now = time.monotonic()
        for partition, records in fetched.items():
            held = self._held.get(partition)
            if held is None or held.next_offset is None:
                continue
            held.silent, held.is_idle = 0.0, False
            came += self._go_on(held, records)
            if partition.topic == self._workers.repartition_topic:
                came.append(RepartitionRecords(held.stream, [(record.offset, record.value) for record in records]))
                held.next_offset = held.reached
            else:
                self._in_step.add(partition, waiting(records))
        if now - self._looked_at > LOOK_EVERY:
            self._looked_at = now
            came += self._look_for_gaps(fetched)
        came += self._hand_over()
        self._find_idle(min(now - self._polled_at, _LONGEST_ROUND))
        self._polled_at = now
        return came

    def _go_on(self, held: _AssignedPartition, records: list[Any]) -> Iterator[SourceMessage]:
        """Notes how far a partition has come; what it brought may begin elsewhere than where it was to go on."""
        first, last = records[0], records[-1]
        partition = self._partitions[held.stream]
        if isinstance(first, Fetch) and first.position != held.reached:
            yield self._gap(held, first.position)
        position = None if isinstance(last, Fetch) else self._consumer.position(partition, timeout_ms=0)
        held.reached = last.offset + 1 if position is None else position

    def _look_for_gaps(self, fetched: Container[TopicPartition]) -> Iterator[SourceMessage]:
        """Partitions whose position was reset although they have nothing to read."""
        for partition, held in self._held.items():
            if held.next_offset is None or partition in fetched or self._consumer.highwater(partition) is None:
                continue
            position = self._consumer.position(partition, timeout_ms=0)
            if position is not None and position != held.reached:
                yield self._gap(held, position)

    def _gap(self, held: _AssignedPartition, position: int) -> StreamGap:
        gap = StreamGap(held.stream, held.reached, position)
        held.reached = position
        held.next_offset = position
        return gap

    def _hand_over(self) -> Iterator[SourceMessage]:
        """What need not wait for other partitions; of one that is far ahead no more is asked for."""
        for partition, one in self._in_step.take(lambda partition: self._behind(partition) != 0):
            held = self._held[partition]
            held.next_offset = one.next_offset
            yield from arrivals(held.stream, [one.content], 0)
        crowded = {p for p in self._held if self._in_step.waiting_bytes(p) > MOST_WAITING}
        crowded |= {partition for partition, held in self._held.items() if held.next_offset is None}
        self._member.pause_only(crowded)

    def _find_idle(self, passed: float) -> None:
        """Time in which nobody could have brought anything is no silence: no broker answers, or the process stood."""
        for partition, held in self._held.items():
            if held.next_offset is None or not self.connected or self._behind(partition) != 0:
                held.silent = 0.0
            else:
                held.silent += passed
                held.is_idle = held.is_idle or held.silent > self._idle_after

    @property
    def _joined(self) -> Any:
        """The consumer, for what cannot be had without one."""
        if self._consumer is None:
            raise KafkaError("no broker answers")
        return self._consumer

    def begin(self, stream: int, position: int | None) -> int:
        """Has a partition read from a position on, or from what is committed. Returns from where."""
        partition = self._partitions[stream]
        consumer, held = self._joined, self._held[partition]
        if position is not None:
            consumer.seek(partition, position)
        else:
            position = consumer.position(partition, timeout_ms=CONNECT_MS)
            if position is None:
                raise KafkaError(f"no broker says where {partition.topic}/{partition.partition} is to begin")
        held.next_offset = held.reached = position
        # What waits is from before, where it was this worker's and another had claimed it.
        self._in_step.leave(partition)
        if partition.topic != self._workers.repartition_topic:
            self._in_step.join(partition)
        consumer.resume(partition)
        return position

    def place(self, stream: int) -> tuple[str, int]:
        """A partition as ``topic/number``, and the position of its next record."""
        partition = self._partitions[stream]
        held = self._held.get(partition)
        return f"{partition.topic}/{partition.partition}", 0 if held is None else held.next_offset or 0

    def is_share(self, stream: int) -> bool:
        """Whether it is a partition of the repartition topic."""
        return bool(self._partitions[stream].topic == self._workers.repartition_topic)

    def is_idle(self, stream: int) -> bool:
        """Whether it has been silent for long enough not to be waited for."""
        held = self._held.get(self._partitions[stream])
        return held is not None and held.is_idle

    def still_ours(self, stream: int) -> bool:
        """Asks the group whether this worker is still the one that has the partition.

        The broker refuses what a member of an earlier generation commits.
        """
        partition = self._partitions[stream]
        if partition not in self._held:
            return False
        known = self._joined.committed(partition, timeout_ms=CONNECT_MS)
        if known is None:
            return True
        try:
            self._joined.commit({partition: OffsetAndMetadata(known, "", -1)}, timeout_ms=CONNECT_MS)
        except KafkaError:
            return False
        return bool(partition in self._held)

    def event_partitions(self) -> list[str]:
        """All source partitions there are, whoever has them."""
        partitions = [(topic, self._joined.partitions_for_topic(topic) or ()) for topic in self._settings.topics]
        return [f"{topic}/{number}" for topic, numbers in partitions for number in sorted(numbers)]

    def shares(self) -> int:
        """How many partitions the repartition topic has."""
        topic = self._workers.repartition_topic
        partitions = self._joined.partitions_for_topic(topic)
        if not partitions:
            raise KafkaError(f"no broker says how many partitions {topic} has")
        return len(partitions)

    def assigned(self, partitions: list[TopicPartition]) -> None:
        for partition in partitions:
            if partition not in self._streams:
                stream = self._streams[partition] = len(self._streams)
                self._partitions[stream] = partition
            self._held[partition] = _AssignedPartition(self._streams[partition])
            self._consumer.pause(partition)
            self._moved.append(StreamJoined(self._streams[partition]))
        PartitionsAssigned(partitions=spoken(partitions)).emit()

    def revoked(self, partitions: list[TopicPartition], *, lost: bool) -> None:
        partitions = [partition for partition in partitions if partition in self._held]
        if not lost:
            self.before_leaving([self._held[partition].stream for partition in partitions])
        for partition in partitions:
            held = self._held.pop(partition)
            self._in_step.leave(partition)
            self._moved.append(StreamLeft(held.stream))
        (PartitionsLost if lost else PartitionsRevoked)(partitions=spoken(partitions)).emit()

    def describe(self, stream: int) -> dict[str, str | int]:
        partition = self._partitions[stream]
        return {"topic": partition.topic, "partition": partition.partition}

    def commit(self, streams: Container[int] | None = None) -> None:
        """What was handed over of these streams is dealt with."""
        offsets = {
            partition: held.next_offset
            for partition, held in self._held.items()
            if held.next_offset is not None
            and held.next_offset != held.committed
            and (streams is None or held.stream in streams)
        }
        if offsets and self._member.commit(offsets):
            for partition, offset in offsets.items():
                if (held := self._held.get(partition)) is not None:
                    held.committed = offset

    def lag(self) -> int:
        return sum(self._behind(partition) or 0 for partition in self._held)

    def _behind(self, partition: TopicPartition) -> int | None:
        """Records of a partition not read yet; ``None`` until a fetch has told where it ends."""
        held, end = self._held.get(partition), self._consumer.highwater(partition)
        if held is None or held.next_offset is None or end is None:
            return None
        return max(0, int(end) - held.next_offset)

    @property
    def connected(self) -> bool:
        return self._member.connected

    @property
    def finished(self) -> bool:
        return False

    def close(self) -> None:
        self._member.close()
