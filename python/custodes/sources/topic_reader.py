"""Reads ranges of topic partitions with their headers, outside of any consumer group."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, UnsupportedCodecError

from custodes.config.model import KafkaSourceSettings as KafkaSettings
from custodes.sources.client import client

_CONNECT_MS = 10_000
"""Milliseconds to find a broker."""
_POLL_MS = 500
_SILENT_FOR = 30.0
"""Seconds without a record after which reading has failed."""


class TopicReader:
    """A consumer that joins no group. All methods raise ``OSError`` if the brokers fail or refuse."""

    def __init__(self, settings: KafkaSettings) -> None:
        # The group is needed to query its offsets. Without a subscription, the consumer does not join it.
        own: dict[str, Any] = {
            "client_id": "custodes-replay",
            "group_id": settings.group_id,
            "enable_auto_commit": False,
        }
        own |= {"auto_offset_reset": "earliest", "bootstrap_timeout_ms": _CONNECT_MS, "group_instance_id": None}
        try:
            self._consumer = client(KafkaConsumer, settings, **own)
        except KafkaError as error:
            raise OSError(_text(error)) from error

    def partitions(self, topic: str) -> list[TopicPartition]:
        """Returns the partitions of a topic, in order. Raises ``OSError`` if the broker does not have it."""
        try:
            numbers = self._consumer.partitions_for_topic(topic)
        except KafkaError as error:
            raise OSError(f"{topic}: {_text(error)}") from error
        if not numbers:
            raise OSError(f"the broker has no topic {topic}")
        return [TopicPartition(topic, number) for number in sorted(numbers)]

    def ends(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Returns the offset after the last record of each partition."""
        try:
            return dict(self._consumer.end_offsets(list(partitions))) if partitions else {}
        except KafkaError as error:
            raise OSError(_text(error)) from error

    def committed(self, partition: TopicPartition) -> int | None:
        """Returns the offset that the source's group has committed; ``None`` without one."""
        try:
            offset = self._consumer.committed(partition)
        except KafkaError as error:
            raise OSError(f"{partition.topic}: {_text(error)}") from error
        return None if offset is None else int(offset)

    def read(
        self, ends: Mapping[TopicPartition, int], starts: Mapping[TopicPartition, int] | None = None
    ) -> Iterator[Any]:
        """Yields the records of each partition up to its end, from its first record or from ``starts``."""
        try:
            yield from self._read(ends, starts or {})
        except UnsupportedCodecError as error:
            topics = ", ".join(sorted({partition.topic for partition in ends}))
            raise OSError(
                f"{topics}: records are compressed with a codec that needs a Python library: "
                "install lz4 or python-snappy"
            ) from error
        except KafkaError as error:
            raise OSError(_text(error)) from error

    def _read(self, ends: Mapping[TopicPartition, int], starts: Mapping[TopicPartition, int]) -> Iterator[Any]:
        consumer = self._consumer
        left = {partition for partition, end in ends.items() if starts.get(partition, 0) < end}
        consumer.assign(list(left))
        consumer.resume(*left)
        for partition in left:
            if partition in starts:
                consumer.seek(partition, starts[partition])
            else:
                consumer.seek_to_beginning(partition)
        heard_at = time.monotonic()
        while left := {partition for partition in left if consumer.position(partition) < ends[partition]}:
            consumer.pause(*(consumer.assignment() - left))
            fetched = consumer.poll(timeout_ms=_POLL_MS)
            for partition, records in fetched.items():
                yield from (record for record in records if record.offset < ends[partition])
            if fetched:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > _SILENT_FOR:
                names = ", ".join(sorted(f"{partition.topic}/{partition.partition}" for partition in left))
                raise KafkaError(f"{names} cannot be read to the end")

    def close(self) -> None:
        """Closes the connections."""
        self._consumer.close()


def _text(error: KafkaError) -> str:
    return str(error) or type(error).__name__
