"""Events from Kafka: a consumer group whose fetches go to the engine whole."""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from custodes._core import Reject
from custodes.config.model import KafkaSourceSettings as KafkaSettings
from custodes.log_events import GroupIsShared, PartitionsAssigned, PartitionsRevoked
from custodes.sources.client import FETCH_BYTES, client
from custodes.sources.consumer_group import GroupMember, spoken
from custodes.sources.dead_letters import Letter
from custodes.sources.fetches import Fetch, FetchClient
from custodes.sources.messages import (
    FetchedBatches,
    RecordList,
    SourceMessage,
    StreamGap,
    StreamIdle,
    StreamJoined,
    StreamLeft,
    StreamPosition,
)
from custodes.sources.watermark_alignment import QueuedItem, WatermarkAlignment

_SEND_MS = 5_000
"""How long a dead letter may take to find its topic before that is a failure."""
LOOK_EVERY = 1.0
"""Seconds between two looks at whether a silent partition still stands where it stood."""
_REBALANCED_WITHIN = 10.0
"""Seconds after which a partition that was taken away counts as gone, though nothing was assigned since."""
MOST_WAITING = 2 * FETCH_BYTES
"""Bytes of a partition that may wait for the others; with so many it is not asked for more."""
_LARGEST_LETTER = 1_000_000
"""Bytes of a rejected record kept: with its headers it must pass under Kafka's default of 1 MiB."""


FetchPart = tuple[Fetch, tuple[int, int]] | list[Any]
"""Of what a partition brought: a span of a fetch, or records where kafka-python had to decode them."""


class KafkaSource:
    """One consumer of a group. Each partition is a stream of its own, numbered as it is first seen.

    Offsets are committed only after :meth:`commit` says that what was handed over has been dealt with, so a
    crash hears events again rather than never.
    """

    def __init__(self, settings: KafkaSettings, idle_after: float, worker: str | None = None) -> None:
        """``worker`` names this member of the group, so that it has its partitions back at once after a restart."""
        self.name = f"kafka:{','.join(settings.topics)}"
        self._idle_after = idle_after
        self._dealt_with: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._streams: dict[TopicPartition, int] = {}
        self._partitions: dict[int, TopicPartition] = {}
        self._next_offset: dict[TopicPartition, int] = {}
        self._reached: dict[TopicPartition, int] = {}
        self._left_at: dict[TopicPartition, int] = {}
        self._looked_at = 0.0
        self._resume: dict[TopicPartition, int] = {}
        self._leaving: dict[TopicPartition, float] = {}
        self._heard_at: dict[TopicPartition, float] = {}
        self._idle: set[TopicPartition] = set()
        self._moved: list[SourceMessage] = []
        self._in_step: WatermarkAlignment[FetchPart] = WatermarkAlignment(time.monotonic)
        self._settings = settings
        self._member = GroupMember(settings, worker, self)

    @property
    def paused(self) -> set[TopicPartition]:
        """The partitions that are not fetched from at the moment, because enough of them is waiting."""
        return set() if self._consumer is None else set(self._consumer.paused())

    @property
    def _consumer(self) -> Any:
        return self._member.consumer

    def poll(self, timeout: float) -> list[SourceMessage]:
        if self._consumer is None:
            self._member.try_to_join(lambda: self._member.connect(self._settings.topics), timeout)
            return []
        fetched = self._member.poll(timeout)
        came, self._moved = self._moved, []
        if self._consumer is None:
            return came
        if any(isinstance(arrival, StreamJoined) for arrival in came):
            self._warn_if_not_alone()
        now = time.monotonic()
        if fetched and len(self._idle) == len(self._heard_at):
            came += self._wake_all(now)
        for partition, records in fetched.items():
            self._heard_at[partition] = now
            self._idle.discard(partition)
            came += self._go_on(partition, records)
            self._in_step.add(partition, waiting(records))
        if now - self._looked_at > LOOK_EVERY:
            self._looked_at = now
            came += self._look_for_gaps(fetched)
            came += self._give_up_leaving(now)
        came += self._hand_over()
        for partition, heard_at in self._heard_at.items():
            if partition not in self._idle and now - heard_at > self._idle_after and self._behind(partition) == 0:
                self._idle.add(partition)
                came.append(StreamIdle(self._stream(partition)))
        return came

    def _warn_if_not_alone(self) -> None:
        there = sum(len(self._consumer.partitions_for_topic(topic) or ()) for topic in self._settings.topics)
        if len(self._heard_at) < there:
            GroupIsShared(partitions=len(self._heard_at), of=there).emit()

    def _go_on(self, partition: TopicPartition, records: list[Any]) -> Iterator[SourceMessage]:
        """Notes how far a partition has come; what it brought may begin elsewhere than where it was to go on."""
        first, last = records[0], records[-1]
        begins = first.position if isinstance(first, Fetch) else self._reached.get(partition, first.offset)
        if (expected := self._reached.get(partition, begins)) != begins:
            yield self._gap(partition, expected, begins)
        if partition not in self._next_offset:
            self._next_offset[partition] = max(begins, self._counted_until(partition))
        position = None if isinstance(last, Fetch) else self._consumer.position(partition, timeout_ms=0)
        self._reached[partition] = last.offset + 1 if position is None else position

    def _counted_until(self, partition: TopicPartition) -> int:
        """Where a partition that was here before begins: less may have been committed than was counted.

        One that ends before that is not the one that was here: its topic was made anew.
        """
        left_at, end = self._left_at.get(partition, 0), self._consumer.highwater(partition)
        if end is not None and end < left_at:
            del self._left_at[partition]
            return 0
        return left_at

    def _look_for_gaps(self, fetched: Container[TopicPartition]) -> Iterator[SourceMessage]:
        """Partitions whose position was reset although they have nothing to read."""
        for partition, expected in self._reached.items():
            if partition not in fetched and self._consumer.highwater(partition) is not None:
                position = self._consumer.position(partition, timeout_ms=0)
                if position is not None and position != expected:
                    self._reached[partition] = position
                    yield self._gap(partition, expected, position)

    def _gap(self, partition: TopicPartition, expected: int, position: int) -> StreamGap:
        if position < expected:
            # What was counted up to here was another log's.
            self._left_at.pop(partition, None)
            self._next_offset[partition] = position
        return StreamGap(self._stream(partition), expected, position)

    def _give_up_leaving(self, now: float) -> Iterator[SourceMessage]:
        """Partitions that were taken away and that no rebalance gave to anybody: their topic is gone."""
        for partition, since in list(self._leaving.items()):
            if now - since > _REBALANCED_WITHIN:
                del self._leaving[partition]
                yield StreamLeft(self._stream(partition))

    def _hand_over(self) -> Iterator[SourceMessage]:
        """What need not wait for other partitions; of one that is far ahead no more is asked for."""
        taken = self._in_step.take(lambda partition: self._behind(partition) != 0)
        for partition, run in groupby(taken, lambda one: one[0]):
            parts = [waiting for _, waiting in run]
            self._next_offset[partition] = max(parts[-1].next_offset, self._next_offset[partition])
            counted_until = self._left_at.get(partition, 0)
            yield from arrivals(self._stream(partition), [one.content for one in parts], counted_until)
        crowded = {p for p in self._heard_at if self._in_step.waiting_bytes(p) > MOST_WAITING}
        self._member.pause_only(crowded)

    def _wake_all(self, now: float) -> list[SourceMessage]:
        """After a lull on the whole topic the first partition to be heard must not run ahead of the others, whose
        events are on their way: all hold the watermark again until they are heard or are idle anew."""
        woken: list[SourceMessage] = [StreamJoined(self._stream(partition)) for partition in self._idle]
        self._heard_at.update(dict.fromkeys(self._idle, now))
        self._idle.clear()
        return woken

    def _stream(self, partition: TopicPartition) -> int:
        if partition not in self._streams:
            stream = self._streams[partition] = max(self._partitions, default=-1) + 1
            self._partitions[stream] = partition
        return self._streams[partition]

    def assigned(self, partitions: list[TopicPartition]) -> None:
        for partition in partitions:
            self._heard_at.setdefault(partition, time.monotonic())
            self._in_step.join(partition)
            position = self._resume.pop(partition, None)
            if partition in self._leaving:
                # It never was anybody else's, so what is committed may be less than was read, or, by an earlier
                # process, more.
                position = self._left_at.get(partition, position)
            if position is not None:
                self._consumer.seek(partition, position)
                self._next_offset[partition] = self._reached[partition] = position
            self._moved.append(StreamJoined(self._stream(partition)))
        # What was taken away only to be given back never left: others must not run ahead of it meanwhile.
        self._moved += [
            StreamLeft(self._stream(partition)) for partition in self._leaving if partition not in partitions
        ]
        self._leaving.clear()
        PartitionsAssigned(partitions=spoken(partitions)).emit()

    def revoked(self, partitions: list[TopicPartition], *, lost: bool) -> None:
        for partition in partitions:
            self._heard_at.pop(partition, None)
            self._in_step.leave(partition)
            if partition in self._next_offset:
                self._left_at[partition] = self._next_offset[partition]
            for offsets in (self._next_offset, self._reached, self._dealt_with, self._committed):
                offsets.pop(partition, None)
            self._idle.discard(partition)
            self._leaving[partition] = time.monotonic()
        PartitionsRevoked(partitions=spoken(partitions)).emit()

    def describe(self, stream: int) -> dict[str, str | int]:
        partition = self._partitions[stream]
        return {"topic": partition.topic, "partition": partition.partition}

    def commit(self, streams: Container[int] | None = None) -> None:
        """What was handed over is dealt with; what comes after it is heard again after a crash."""
        for partition, offset in self._next_offset.items():
            if streams is None or self._stream(partition) in streams:
                self._dealt_with[partition] = offset
        self._commit_now()

    def places(self) -> list[StreamPosition]:
        ours = {*self._heard_at, *self._leaving}
        return [
            StreamPosition(
                self._stream(partition), f"{partition.topic}/{partition.partition}", offset, partition in ours
            )
            for partition, offset in (self._left_at | self._next_offset).items()
        ]

    def resume(self, places: Sequence[StreamPosition]) -> None:
        for place in places:
            topic, _, number = place.name.rpartition("/")
            partition = TopicPartition(topic, int(number))
            self._streams[partition], self._partitions[place.stream] = place.stream, partition
            if place.ours:
                self._resume[partition] = place.position
            else:
                self._left_at[partition] = place.position

    def _commit_now(self) -> None:
        """Commits what was dealt with, which after a failure is less than what was read."""
        offsets = {
            partition: offset
            for partition, offset in self._dealt_with.items()
            if self._committed.get(partition) != offset
        }
        if offsets and self._member.commit(offsets):
            self._committed.update(offsets)

    def lag(self) -> int:
        return sum(self._behind(partition) or 0 for partition in self._heard_at)

    def _behind(self, partition: TopicPartition) -> int | None:
        """Records of a partition not read yet; ``None`` until a fetch has told where it ends.

        A partition nothing is known of may have a long backlog, so it must not count as idle.
        """
        end = self._consumer.highwater(partition)
        if end is None:
            return None
        position = self._next_offset.get(partition)
        if position is None:
            position = self._consumer.position(partition, timeout_ms=0)
        return None if position is None else max(0, end - position)

    @property
    def connected(self) -> bool:
        return self._member.connected

    @property
    def finished(self) -> bool:
        return False

    def close(self) -> None:
        if self._consumer is not None:
            self._commit_now()
        self._member.close()


def waiting(fetched: list[Any]) -> Iterator[QueuedItem[FetchPart]]:
    """A partition's part of a poll: pieces of whole fetches, or records where kafka-python had to decode them."""
    for whole, run in groupby(fetched, lambda one: isinstance(one, Fetch)):
        if whole:
            for fetch in run:
                for piece in fetch.pieces:
                    begin, end = piece.span
                    yield QueuedItem((fetch, piece.span), piece.next_offset, piece.latest_ms, end - begin)
        else:
            records = list(run)
            size = sum(len(record.value or b"") for record in records)
            yield QueuedItem(records, records[-1].offset + 1, records[-1].timestamp or -1, size)


def arrivals(stream: int, parts: list[FetchPart], counted_until: int) -> Iterator[SourceMessage]:
    """Parts of one partition in order, from ``counted_until`` on; pieces of one fetch become one again."""
    for fetch, run in groupby(parts, lambda part: part[0] if isinstance(part, tuple) else None):
        if fetch is None:
            for part in run:
                if isinstance(part, list) and (rest := [one for one in part if one.offset >= counted_until]):
                    yield RecordList(stream, rest)
        else:
            spans = [span for _, span in run]
            position = max(fetch.position, counted_until)
            yield FetchedBatches(stream, fetch.data, (spans[0][0], spans[-1][1]), position, fetch.aborted)


class KafkaDeadLetters:
    """A topic of the rejected records as they came, so that a mended one can be sent back as it is.

    Headers ``custodes.topic``, ``.partition``, ``.offset``, ``.reason`` and ``.detail`` say whence and why.
    """

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._topic = topic
        self._settings = settings
        self._producer: Any = None

    def write(self, letters: Sequence[Letter]) -> None:
        try:
            for sent in [self._send(letter.reject, letter.place) for letter in letters]:
                sent.get(timeout=30)
        except KafkaError as error:
            raise OSError(f"{self._topic}: {str(error) or type(error).__name__}") from error

    def _send(self, reject: Reject, place: dict[str, str | int]) -> Any:
        if self._producer is None:
            own = {"client_id": "custodes-dead-letters", "acks": "all", "max_block_ms": _SEND_MS}
            self._producer = client(KafkaProducer, self._settings, **own)
        headers = [
            ("custodes.topic", str(place["topic"]).encode()),
            ("custodes.partition", str(place["partition"]).encode()),
            ("custodes.offset", str(reject.position).encode()),
            ("custodes.reason", reject.reason.encode()),
            ("custodes.detail", reject.detail.encode()),
        ]
        if len(reject.value) > _LARGEST_LETTER:
            headers.append(("custodes.cut_from_bytes", str(len(reject.value)).encode()))
        return self._producer.send(self._topic, value=reject.value[:_LARGEST_LETTER], headers=headers)

    def close(self) -> None:
        if self._producer is not None:
            self._producer.close()


def reachable(settings: KafkaSettings, also: Iterable[str] = (), timeout: float = 5.0) -> str | None:
    """Asks a broker for the topics, and for others ``also`` wanted. Returns what is wrong, or ``None``."""
    millis = int(timeout * 1000)
    consumer = None
    try:
        own = {"bootstrap_timeout_ms": millis, "request_timeout_ms": millis, "kafka_client": FetchClient}
        consumer = client(KafkaConsumer, settings, **own)
        known = consumer.topics()
    except (KafkaError, OSError) as error:
        return str(error) or type(error).__name__
    finally:
        if consumer is not None:
            consumer.close()
    wanted = {*settings.topics, *filter(None, [settings.dead_letter_topic]), *also}
    missing = sorted(wanted - set(known))
    return f"the broker has no topic {', '.join(missing)}" if missing else None
