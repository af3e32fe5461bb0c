"""Events from Kafka for a single process: a member of a consumer group that passes whole fetches to the engine."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import InvalidRecordError, KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from custodes.config.model import KafkaSourceSettings as KafkaSettings
from custodes.log_events import (
    DeadLetterRefused,
    GroupIsShared,
    PartitionsAssigned,
    PartitionsRevoked,
    cause_of,
)
from custodes.sources.client import client
from custodes.sources.connection_causes import cause_of_failure, most_telling
from custodes.sources.connections import ConnectionFailures, end_producer
from custodes.sources.consumer_group import GroupMember, partition_names
from custodes.sources.dead_letters import Letter
from custodes.sources.fetches import knows_topic
from custodes.sources.messages import SourceMessage, StreamIdle, StreamJoined, StreamLeft, StreamPosition
from custodes.sources.partitions import GAP_CHECK_SECONDS, PartitionedConsumer, PartitionState, queued_items
from custodes.sources.watermark_alignment import PartitionQueue

_SEND_MS = 5_000
"""Milliseconds to find the topic of a dead letter before sending fails."""
_REBALANCED_WITHIN = 10.0
"""Seconds after which a revoked partition has left, even if no assignment followed."""
_LARGEST_LETTER = 1_000_000
"""Bytes of a rejected record to keep: with its headers it must not exceed Kafka's default limit of 1 MiB."""


class KafkaSource(PartitionedConsumer):
    """Reads all partitions that the group assigns to this process, each as one stream.

    Offsets are committed only after :meth:`commit` confirms that the delivered events are processed. After a crash,
    events are replayed and none is lost.
    """

    def __init__(self, settings: KafkaSettings, idle_after: float, worker: str | None = None) -> None:
        """``worker`` names this member of the group, so that it gets its partitions back at once after a restart."""
        super().__init__(settings.topics)
        self._settings = settings
        self._idle_after = idle_after
        self._member = GroupMember(settings, worker, self)

    def poll(self, timeout: float) -> list[SourceMessage]:
        self._rejoin_if_needed()
        if self._consumer is None:
            self._member.try_to_join(lambda: self._member.connect(self._settings.topics), timeout)
            return []
        fetched = self._member.poll(timeout)
        messages, self._changes = self._changes, []
        if self._consumer is None:
            return messages
        if any(isinstance(message, StreamJoined) for message in messages):
            self._warn_if_shared()
        now = time.monotonic()
        messages += self._start_waiting()
        if fetched and all(state.is_idle for state in self._assigned()):
            messages += self._wake_all(now)
        for partition, records in fetched.items():
            messages += self._receive(self._state(partition), records, now)
        if now - self._checked_at > GAP_CHECK_SECONDS:
            messages += self._check_for_gaps(fetched, now)
            messages += self._expire_revoked(now)
            messages += self._find_recreated()
        messages += self._deliver()
        messages += self._find_idle(now)
        return messages

    def _warn_if_shared(self) -> None:
        existing = sum(len(self._consumer.partitions_for_topic(topic) or ()) for topic in self._settings.topics)
        if (assigned := len(self._assigned())) < existing:
            GroupIsShared(partitions=assigned, of=existing).emit()

    def _receive(self, state: PartitionState, records: list[Any], now: float) -> Iterator[SourceMessage]:
        state.last_record_at, state.is_idle = now, False
        yield from self._fetched(state, records)
        if state.queue is None:
            state.queue = PartitionQueue(now)
        state.queue.add(queued_items(records))

    def _find_idle(self, now: float) -> Iterator[SourceMessage]:
        for state in self._assigned():
            is_silent = now - state.last_record_at > self._idle_after
            if not state.is_idle and is_silent and self._lag_of(state) == 0:
                state.is_idle = True
                yield StreamIdle(state.stream)

    def _wake_all(self, now: float) -> Iterator[SourceMessage]:
        """After a pause of the whole topic, all partitions hold the watermark again until they have data or are idle.

        Otherwise the first partition with data would run ahead of the others, whose events are not fetched yet.
        """
        for state in self._assigned():
            state.last_record_at, state.is_idle = now, False
            yield StreamJoined(state.stream)

    def _counted_until(self, state: PartitionState) -> int:
        """Returns where a partition that was assigned before starts: it may be counted further than committed.

        From a broker without topic ids, a partition whose end is before that offset belongs to a recreated topic.
        """
        end = self._consumer.highwater(state.partition)
        has_less = state.counted_until is not None and end is not None and end < state.counted_until
        if has_less and state.log.topic_id is None:
            state.counted_until = None
        return super()._counted_until(state)

    def _position_reset(self, state: PartitionState, expected: int, position: int) -> None:
        if position < expected:
            # The offsets counted so far belong to an earlier log.
            state.counted_until = None
            state.next_offset = position

    def _expire_revoked(self, now: float) -> Iterator[SourceMessage]:
        """Yields revoked partitions that no rebalance assigned again: their topic was deleted."""
        for state in self._states.values():
            if state.revoked_at is not None and now - state.revoked_at > _REBALANCED_WITHIN:
                state.revoked_at = state.resume_at = None
                yield StreamLeft(state.stream)

    def assigned(self, partitions: list[TopicPartition]) -> None:
        now = time.monotonic()
        for state in [self._state(partition) for partition in partitions]:
            if not state.is_assigned:
                state.is_assigned, state.last_record_at, state.queue = True, now, PartitionQueue(now)
            position = state.resume_at
            if state.revoked_at is not None and state.counted_until is not None:
                # No other member had the partition, so the committed offset can be less than what was counted, or, if
                # an earlier process committed it, more.
                position = state.counted_until
            self._changes.append(StreamJoined(state.stream))
            state.resume_at = position
            state.awaits_start = True
            self._consumer.pause(state.partition)
        # A partition that was revoked only to be assigned again has not left: the others must not run ahead of it.
        for state in self._states.values():
            if state.revoked_at is not None and not state.is_assigned:
                state.resume_at = None
                self._changes.append(StreamLeft(state.stream))
            state.revoked_at = None
        PartitionsAssigned(partitions=partition_names(partitions)).emit()

    def _start_waiting(self) -> Iterator[SourceMessage]:
        """Starts assigned partitions as soon as it is known which topic the broker has under their name."""
        for state in self._assigned():
            if not state.awaits_start or not knows_topic(self._consumer, state.partition.topic):
                continue
            position, state.resume_at, state.awaits_start = state.resume_at, None, False
            if position is None and self._is_recreated(state):
                position = state.counted_until or 0
            if position is None:
                self._identify(state)
            elif (gap := self._go_on(state, position)) is not None:
                yield gap

    def revoked(self, partitions: list[TopicPartition], *, lost: bool) -> None:
        for state in [self._state(partition) for partition in partitions]:
            if state.next_offset is not None:
                state.counted_until = state.next_offset
            state.revoke()
            state.revoked_at = time.monotonic()
        PartitionsRevoked(partitions=partition_names(partitions)).emit()

    def places(self) -> list[StreamPosition]:
        return [
            StreamPosition(state.stream, state.name, offset, _is_ours(state), state.log)
            for state in self._states.values()
            if (offset := _position_of(state)) is not None
        ]

    def resume(self, places: Sequence[StreamPosition]) -> None:
        for place in places:
            topic, _, number = place.name.rpartition("/")
            state = self._state(TopicPartition(topic, int(number)), place.stream)
            state.log = place.log
            if place.ours:
                state.resume_at = place.position
            else:
                state.counted_until = place.position

    def close(self) -> None:
        if self._consumer is not None:
            self._commit_processed()
        super().close()


def _position_of(state: PartitionState) -> int | None:
    """Returns the offset of the next record to count."""
    known = (state.next_offset, state.resume_at, state.counted_until)
    return next((offset for offset in known if offset is not None), None)


def _is_ours(state: PartitionState) -> bool:
    """Returns whether no other process has read the partition since its position."""
    return state.is_assigned or state.revoked_at is not None or state.resume_at is not None


_LARGEST_DETAIL = 4_096
"""Bytes of a reason's detail to keep: it repeats parts of the record, which is kept itself."""
_CUT_TO = 4
"""Part of a record, as a divisor, that is tried after the topic refused the larger one."""
_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


class KafkaDeadLetters:
    """Writes rejected records unchanged to a topic, so that a corrected record can be sent back from there.

    The headers ``custodes.topic``, ``.partition``, ``.offset``, ``.reason`` and ``.detail`` give origin and reason.
    """

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._topic = topic
        self._settings = settings
        self._producer: Any = None

    def write(self, letters: Sequence[Letter]) -> None:
        try:
            sent = [(letter, self._send(letter, _LARGEST_LETTER)) for letter in letters]
            for letter, future in sent:
                self._arrive(letter, future)
        except KafkaError as error:
            raise OSError(f"{self._topic}: {str(error) or type(error).__name__}") from error

    def _arrive(self, letter: Letter, future: Any) -> None:
        """Returns once a letter is stored, or put aside because the topic takes no such record.

        A refused letter is sent again alone, because a broker refuses records together, and then with less and less of
        its record, if it is too large for the topic.
        """
        sizes = [min(_LARGEST_LETTER, len(letter.reject.value))]
        while sizes[-1]:
            sizes.append(sizes[-1] // _CUT_TO)
        for most in sizes:
            try:
                future.get(timeout=30)
            except _TOO_LARGE:
                future = self._send(letter, most)
            except InvalidRecordError:
                future = self._send(letter, sizes[0])
                break
            else:
                return
        try:
            future.get(timeout=30)
        except (InvalidRecordError, *_TOO_LARGE) as error:
            DeadLetterRefused(
                place=letter.place, position=letter.reject.position, reason=letter.reject.reason, error=cause_of(error)
            ).emit()

    def _send(self, letter: Letter, most: int) -> Any:
        """Sends a letter with at most ``most`` bytes of its record."""
        reject, place = letter.reject, letter.place
        if self._producer is None:
            own: dict[str, Any] = {"client_id": "custodes-dead-letters", "acks": "all", "max_block_ms": _SEND_MS}
            # An idempotent producer sends nothing more after a record was refused.
            own["enable_idempotence"] = False
            self._producer = client(KafkaProducer, self._settings, **own)
        headers = [
            ("custodes.topic", str(place["topic"]).encode()),
            ("custodes.partition", str(place["partition"]).encode()),
            ("custodes.offset", str(reject.position).encode()),
            ("custodes.reason", reject.reason.encode()),
            ("custodes.detail", reject.detail.encode()[:_LARGEST_DETAIL]),
        ]
        if len(reject.value) > most:
            headers.append(("custodes.cut_from_bytes", str(len(reject.value)).encode()))
        return self._producer.send(self._topic, value=reject.value[:most], headers=headers)

    def close(self) -> None:
        if self._producer is not None:
            end_producer(self._producer)


def reachable(settings: KafkaSettings, also: Iterable[str] = (), timeout: float = 5.0) -> str | None:
    """Returns why the topics, and those in ``also``, cannot be read; ``None`` if a broker has all of them."""
    millis = int(timeout * 1000)
    consumer, failures = None, ConnectionFailures()
    try:
        own = {"bootstrap_timeout_ms": millis, "request_timeout_ms": millis}
        consumer = client(KafkaConsumer, settings, failures=failures, **own)
        known = consumer.topics()
    except (KafkaError, OSError) as error:
        return cause_of_failure(most_telling([error, *failures.recent()], settings) or error, settings)
    finally:
        if consumer is not None:
            consumer.close()
    wanted = {*settings.topics, *filter(None, [settings.dead_letter_topic]), *also}
    missing = sorted(wanted - set(known))
    return f"the broker has no topic {', '.join(missing)}" if missing else None
