"""Look-up tables in compacted Kafka topics: one row per record, read to the end and then continuously."""

from __future__ import annotations

import csv
import io
import json
import threading
import time
from collections.abc import Callable
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from custodes.config import Fault, FaultsError
from custodes.config.model import KafkaSourceSettings as KafkaSettings
from custodes.config.model import TableTopicSettings
from custodes.log_events import LookupRowRejected, LookupTopicFailed
from custodes.sources.client import client

_READ_WITHIN = 60.0
"""Seconds without data after which reading to the end fails."""
_POLL_MS = 500
_AGAIN_AFTER = 5.0
"""Seconds between two attempts while no broker answers, and between two checks for new partitions."""
_REST = 10
"""A table is rebuilt at most once per this multiple of the time that a rebuild takes."""


class TopicTable:
    """The rows of one topic.

    A row is a JSON object with the columns as keys. The key of a record identifies the row; a record without a value
    deletes it.
    """

    def __init__(self, settings: KafkaSettings, said: TableTopicSettings) -> None:
        self.identity: object = (settings.model_dump_json(), said.model_dump_json())
        self.where = f"topic {said.topic}"
        self.on_refused: Callable[[], None] = lambda: None
        self._settings, self._said = settings, said
        self._rows: dict[bytes, bytes] = {}
        self._version = 0
        self._changing = threading.Lock()
        self._ends: dict[TopicPartition, int] = {}
        self._is_whole, self._stop = threading.Event(), threading.Event()
        self._heard_at = time.monotonic()
        self._rest_until = 0.0
        self._problem: str | None = None
        self._reader: threading.Thread | None = None
        self._seen = 0

    def state(self) -> int:
        """A number that changes with the rows, but not too often."""
        if time.monotonic() >= self._rest_until:
            self._seen = self._version
        return self._seen

    def read(self) -> tuple[int, bytes]:
        """Returns all rows as CSV, and their version. The first call waits until the topic is read to its current end.

        Raises :class:`FaultsError` if the topic cannot be read.
        """
        if self._reader is None:
            self._reader = threading.Thread(target=self._read, name=f"table from {self._said.topic}", daemon=True)
            self._reader.start()
        while not self._is_whole.wait(0.1):
            if time.monotonic() - self._heard_at > _READ_WITHIN or not self._reader.is_alive():
                problem = self._problem or "nothing came"
                raise FaultsError([Fault(f"the table cannot be read: {problem}", self.where)])
        begun = time.monotonic()
        with self._changing:
            version = self._seen = self._version
            text = b"".join([_line(self._said.columns), *self._rows.values()])
        now = time.monotonic()
        self._rest_until = now + _REST * (now - begun)
        return version, text

    def close(self) -> None:
        """Stops the reader."""
        self._stop.set()
        if self._reader is not None:
            self._reader.join(10)

    def _read(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow()
            except KafkaError as error:
                self._problem = str(error) or type(error).__name__
                LookupTopicFailed(topic=self._said.topic, error=self._problem).emit()
                self._stop.wait(_AGAIN_AFTER)

    def _follow(self) -> None:
        """Reads the topic from its start, continuously. Repeated records change nothing."""
        consumer = client(
            KafkaConsumer, self._settings, client_id="custodes-table", group_id=None, enable_auto_commit=False,
            auto_offset_reset="earliest",
        )  # fmt: skip
        try:
            assigned: list[TopicPartition] = []
            look_at = 0.0
            while not self._stop.is_set():
                if time.monotonic() >= look_at:
                    assigned = self._assign(consumer, assigned)
                    look_at = time.monotonic() + _AGAIN_AFTER
                for partition, records in consumer.poll(timeout_ms=_POLL_MS).items():
                    self._heard_at = time.monotonic()
                    self._take(partition, records)
                if not self._is_whole.is_set() and all(
                    consumer.position(partition) >= end for partition, end in self._ends.items()
                ):
                    self._is_whole.set()
        finally:
            consumer.close()

    def _assign(self, consumer: Any, assigned: list[TopicPartition]) -> list[TopicPartition]:
        """Adds new partitions. Raises ``KafkaError`` if the topic does not exist."""
        topic = self._said.topic
        numbers = consumer.partitions_for_topic(topic)
        if not numbers:
            raise KafkaError(f"the broker has no topic {topic}")
        known = [TopicPartition(topic, number) for number in sorted(numbers)]
        if known != assigned:
            consumer.assign(known)
            if not self._is_whole.is_set():
                self._ends = consumer.end_offsets(known)
        return known

    def _take(self, partition: TopicPartition, records: list[Any]) -> None:
        with self._changing:
            for record in records:
                try:
                    row = self._row(record)
                except (ValueError, TypeError) as error:
                    place = f"{partition.topic}/{partition.partition}"
                    LookupRowRejected(place=place, offset=record.offset, problem=str(error)).emit()
                    self.on_refused()
                    continue
                if row is None:
                    self._rows.pop(record.key, None)
                else:
                    self._rows[record.key] = row
            self._version += 1

    def _row(self, record: Any) -> bytes | None:
        """Returns a record as a line of CSV; ``None`` if it deletes its row.

        Raises ``ValueError`` or ``TypeError`` for a record that is not a valid row.
        """
        if record.key is None:
            raise ValueError("the record has no key, which identifies the row")
        if not record.value:
            return None
        row = json.loads(record.value, parse_int=str, parse_float=str)
        if not isinstance(row, dict):
            raise TypeError("the value must be a JSON object")
        cells = [row.get(column, "") for column in self._said.columns]
        for column, cell in zip(self._said.columns, cells, strict=True):
            if not isinstance(cell, str | bool | None):
                raise TypeError(f"'{column}' is a list or an object")
        return _line(["true" if cell is True else "false" if cell is False else cell or "" for cell in cells])


def _line(cells: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()
