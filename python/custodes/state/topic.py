"""Worker state in a compacted Kafka topic, so that workers need no other system.

The order of the log decides. A claim is a record, and its offset is the claimant's *epoch*. A file is its chunks and a
record that marks it complete. A file whose last record comes after a later claim was written by a worker that had lost
the task, and is ignored. Keys contain the epoch, so such a worker overwrites nothing; compaction removes deleted files.
"""

from __future__ import annotations

import io
import json
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from custodes.config.model import KafkaSourceSettings as KafkaSettings
from custodes.sources.client import client
from custodes.sources.connections import end_producer
from custodes.state.folder import OutputFile
from custodes.state.snapshots import SUFFIX

_CHUNK_BYTES = 900 << 10
"""Bytes of a file in one record: with its key, a record must fit into Kafka's default limit of 1 MiB."""
_SEND_MS, _ARRIVE_MS = 5_000, 12_000
"""Time limits for an answer of a broker, and for the delivery of a record with all retries, in milliseconds."""
_SILENT_FOR = 10.0
"""Seconds without a record after which reading the topic has failed."""
_CLAIMS_KEPT = 8


@dataclass
class _TaskFile:
    """A file of a task, as described by its records."""

    epoch: int
    chunks: dict[int, bytes] = field(default_factory=dict)
    is_whole: bool = False


class PendingRecord:
    """A record that was sent and not acknowledged yet."""

    def __init__(self, topic: StateTopic, producer: Any, future: Any) -> None:
        self._topic, self._producer, self._future = topic, producer, future

    def arrive(self) -> int:
        """Returns the record's offset once it is in the topic. Raises ``KafkaError`` after the time limit."""
        try:
            return int(self._future.get(timeout=_ARRIVE_MS / 1000).offset)
        except KafkaError:
            # A producer that has given up on a record may never send the next one (kafka-python 3.0.12).
            self._topic.replace(self._producer)
            raise


class StateTopic:
    """A state store. It is used from one thread, its folders from another."""

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._producer: Any = None
        self._replacing = threading.Lock()
        self._reader: Any = None

    def agree(self, name: str, proposal: str) -> str:
        for attempt in range(2):
            for _, key, value in self._read(0, until=None):
                if key[:2] == ["agreed", name] and value is not None:
                    return str(value.decode())
            if attempt == 0:
                self.send(0, ["agreed", name, str(uuid.uuid4())], proposal.encode()).arrive()
        raise KafkaError(f"{self._topic} does not keep its records; it must be a compacted topic")

    def claim(self, task: str) -> TopicFolder:
        partition = self._partition(task)
        epoch = self.send(partition, ["claim", task, str(uuid.uuid4())], b"{}").arrive()
        return TopicFolder(self, task, partition, epoch, self._read(partition, until=epoch))

    def send(self, partition: int, key: list[str | int], value: bytes | None) -> PendingRecord:
        """Sends a record. The value ``None`` deletes the key."""
        producer = self._sender()
        future = producer.send(self._topic, key=json.dumps(key).encode(), value=value, partition=partition)
        return PendingRecord(self, producer, future)

    def _sender(self) -> Any:
        with self._replacing:
            if self._producer is None:
                # Duplicate records are harmless, so the producer need not be idempotent.
                own: dict[str, Any] = {"client_id": "custodes-state", "acks": "all", "enable_idempotence": False}
                own |= {"max_block_ms": _SEND_MS, "request_timeout_ms": _SEND_MS, "delivery_timeout_ms": _ARRIVE_MS}
                self._producer = client(KafkaProducer, self._settings, compression_type="zstd", **own)
            return self._producer

    def replace(self, producer: Any) -> None:
        """Replaces a producer, unless it was replaced already."""
        with self._replacing:
            if self._producer is not producer:
                return
            self._producer = None
        end_producer(producer, timeout=0)

    def _partition(self, task: str) -> int:
        partitions = self._sender().partitions_for(self._topic)
        return int(task.rpartition("/")[2]) % len(partitions)

    def _read(self, partition: int, until: int | None) -> Iterator[tuple[int, list[Any], Any]]:
        """Yields offset, key and value of the records of a partition, in order, up to ``until`` or to its end."""
        if self._reader is None:
            own: dict[str, Any] = {"client_id": "custodes-state", "group_id": None, "enable_auto_commit": False}
            self._reader = client(KafkaConsumer, self._settings, auto_offset_reset="earliest", **own)
        reader, there = self._reader, TopicPartition(self._topic, partition)
        reader.assign([there])
        reader.seek_to_beginning(there)
        end = reader.end_offsets([there])[there] if until is None else until + 1
        heard_at = time.monotonic()
        while reader.position(there) < end:
            records = reader.poll(timeout_ms=500).get(there, [])
            for record in records:
                if record.offset < end:
                    yield record.offset, json.loads(record.key), record.value
            if records:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > _SILENT_FOR:
                raise KafkaError(f"{self._topic}/{partition} cannot be read to its end")

    def close(self) -> None:
        if self._producer is not None:
            end_producer(self._producer)
        if self._reader is not None:
            self._reader.close()


class TopicFolder:
    """The files of a task under one claim."""

    def __init__(
        self, store: StateTopic, task: str, partition: int, epoch: int, records: Iterator[tuple[int, list[Any], Any]]
    ) -> None:
        self._store, self._task, self._partition, self.epoch = store, task, partition, epoch
        self._files: dict[str, _TaskFile] = {}
        self._sent: list[PendingRecord] = []
        found: dict[tuple[int, str], _TaskFile] = {}
        claims: list[list[Any]] = []
        claimed = -1
        for offset, key, value in records:
            match key:
                case ["claim", of, _] if of == task and value is not None:
                    claimed = offset
                    claims.append(key)
                case ["chunk" | "whole", of, written_in, name, *_] if of == task and value is None:
                    # A file is always deleted as a whole.
                    found.pop((written_in, name), None)
                case ["chunk", of, written_in, name, number] if of == task:
                    found.setdefault((written_in, name), _TaskFile(written_in)).chunks[number] = value
                case ["whole", of, written_in, name] if of == task:
                    file = found.setdefault((written_in, name), _TaskFile(written_in))
                    file.is_whole = written_in == claimed and set(file.chunks) == set(range(int(value)))
        for (written_in, name), file in found.items():
            if file.is_whole:
                self._files[name + SUFFIX] = file
            else:
                self._remove(written_in, name, file)
        for key in claims[:-_CLAIMS_KEPT]:
            self._send(key, None)

    def names(self) -> list[str]:
        return sorted(self._files)

    def open(self, name: str) -> BinaryIO:
        """Opens a file of an earlier claimant, once: its content is released, because it is never read twice."""
        chunks = self._files[name].chunks
        content = io.BytesIO(b"".join(chunks[number] for number in range(len(chunks))))
        self._files[name].chunks = dict.fromkeys(chunks, b"")
        return content

    def create(self, name: str) -> OutputFile:
        for file in self._files.values():
            file.chunks = dict.fromkeys(file.chunks, b"")
        file = self._files[name] = _TaskFile(self.epoch)
        return _TopicFile(self, name, file)

    def rename(self, name: str, to: str) -> None:
        """Marks a file complete, which makes it visible to later claimants. It keeps the keys of its chunks."""
        file = self._files.pop(name)
        self._files[to] = file
        self._send(["whole", self._task, self.epoch, _stem(to)], str(len(file.chunks)).encode())

    def remove(self, name: str) -> None:
        if (file := self._files.pop(name, None)) is not None:
            self._remove(file.epoch, _stem(name), file)

    def _remove(self, epoch: int, stem: str, file: _TaskFile) -> None:
        self._send(["whole", self._task, epoch, stem], None)
        for number in file.chunks:
            self._send(["chunk", self._task, epoch, stem, number], None)

    def _send(self, key: list[Any], value: bytes | None) -> None:
        self._sent.append(self._store.send(self._partition, key, value))

    def write(self, name: str, number: int, chunk: bytes) -> None:
        """Sends a chunk of a file."""
        self._send(["chunk", self._task, self.epoch, _stem(name), number], chunk)

    def sync(self) -> None:
        """Returns once all sent records are in the topic."""
        sent, self._sent = self._sent, []
        for one in sent:
            one.arrive()


def _stem(name: str) -> str:
    return name.partition(".")[0]


class _TopicFile:
    """A file being written."""

    def __init__(self, folder: TopicFolder, name: str, file: _TaskFile) -> None:
        self._folder, self._name, self._file = folder, name, file
        self._buffer = bytearray()

    def write(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= _CHUNK_BYTES:
            self._send(_CHUNK_BYTES)

    def _send(self, size: int) -> None:
        number = len(self._file.chunks)
        self._folder.write(self._name, number, bytes(self._buffer[:size]))
        self._file.chunks[number] = b""
        del self._buffer[:size]

    def sync(self) -> None:
        if self._buffer:
            self._send(len(self._buffer))
        self._folder.sync()

    def close(self) -> None:
        """Does nothing: no resource is held."""
