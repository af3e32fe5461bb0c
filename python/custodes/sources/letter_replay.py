"""Sends dead letters again that the current mapping and limits can read, each once.

Each letter goes unchanged to the topic and partition that its record came from, so that the monitor counts it like any
other event. The header ``custodes.replayed_from`` names the letter. A letter is sent at most once: it is noted as sent
when the broker has acknowledged it, and after a run was killed, the next run reads from the topics what was sent.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from kafka import KafkaProducer, TopicPartition
from kafka.errors import (
    InvalidRecordError,
    InvalidTimestampError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NotEnoughReplicasAfterAppendError,
    RecordListTooLargeError,
    RequestTimedOutError,
)

from custodes._core import Engine
from custodes.config.model import KafkaSourceSettings as KafkaSettings
from custodes.sources.client import client
from custodes.sources.connections import end_producer
from custodes.sources.dead_letters import KeptLetter
from custodes.sources.letter_store import DELIVERY_MS, LetterBatch, LetterStore, UnreadableLetter
from custodes.sources.replay import numbered
from custodes.sources.topic_reader import TopicReader

REPLAYED_HEADER = "custodes.replayed_from"
"""Header of a record that was sent again; its value is the identity of the letter."""
_REFUSALS = (InvalidRecordError, InvalidTimestampError, MessageSizeTooLargeError, RecordListTooLargeError)
"""Errors that concern a record, and not the topic or the brokers."""
_UNKNOWN = (KafkaConnectionError, KafkaTimeoutError, NotEnoughReplicasAfterAppendError, RequestTimedOutError)
"""Errors after which a record can still appear in its topic."""
_MOST_LETTERS, _MOST_BYTES = 2_000, 16 << 20
"""Letters, and bytes of their records, that are sent together."""
_HEADER_BYTES = 1 << 20
"""Bytes by which a request may exceed a record."""
_CORRUPT_BATCH = "corrupt_batch"

STAYS: Mapping[str, str] = {
    "cut": "only the first bytes of the record were kept",
    "not_a_letter": "the line or record is not a dead letter, or cannot be decrypted",
    "no_topic": "the record did not come from a topic and partition of source.kafka",
    "uncommitted": "the monitor has not committed the record, and reads it again after a restart",
}
"""Reasons why a letter stays, besides those for which the mapping and limits reject it."""


@dataclass
class ReplayedLetters:
    """Result of a run: numbers of letters."""

    sent: Counter[str] = field(default_factory=Counter)
    """Letters that were sent, or would be in a dry run, by the reason for which they were rejected."""
    stay: Counter[str] = field(default_factory=Counter)
    """Letters that cannot be sent, by the current reason."""
    refused: Counter[str] = field(default_factory=Counter)
    """Letters that the source's topic refused, by topic."""
    already_sent: int = 0
    copies: int = 0
    """Further letters about a record that has one already: a restart can write a letter twice."""
    not_selected: int = 0
    """Letters with another reason than those selected."""
    unreadable: list[UnreadableLetter] = field(default_factory=list)


class RecordRefusedError(Exception):
    """A topic refused one of the records."""


class SourceTopics(Protocol):
    """The topics that letters are sent to."""

    def has(self, origin: tuple[str, int]) -> bool:
        """Returns whether the monitor reads a topic and partition."""

    def committed(self, origin: tuple[str, int]) -> int:
        """Returns the offset that the monitor has committed; 0 without one."""

    def ends(self, origins: Collection[tuple[str, int]]) -> dict[str, int]:
        """Returns the end of each topic partition, as ``topic/partition``."""

    def send(self, letters: Sequence[KeptLetter]) -> None:
        """Returns once all letters are acknowledged.

        Raises :class:`RecordRefusedError`; some letters were sent then. Raises ``OSError`` if it is unknown what was
        sent.
        """

    def arrived(self, batch: LetterBatch) -> list[str]:
        """Returns the identities of all letters that were sent since a batch began."""


class KafkaSourceTopics:
    """The topics of ``source.kafka``. All methods raise ``OSError`` if the brokers fail or refuse."""

    def __init__(self, settings: KafkaSettings, reader: TopicReader, most_bytes: int) -> None:
        """``most_bytes`` is the size of the largest record."""
        self._settings, self._reader, self._most_bytes = settings, reader, most_bytes
        self._partitions: dict[str, list[TopicPartition]] = {}
        self._committed: dict[tuple[str, int], int] = {}
        self._producer: Any = None

    def has(self, origin: tuple[str, int]) -> bool:
        topic, partition = origin
        if topic not in self._settings.topics:
            return False
        if topic not in self._partitions:
            self._partitions[topic] = self._reader.partitions(topic)
        return TopicPartition(topic, partition) in self._partitions[topic]

    def committed(self, origin: tuple[str, int]) -> int:
        if origin not in self._committed:
            self._committed[origin] = self._reader.committed(TopicPartition(*origin)) or 0
        return self._committed[origin]

    def ends(self, origins: Collection[tuple[str, int]]) -> dict[str, int]:
        ends = self._reader.ends([TopicPartition(*origin) for origin in origins])
        return {f"{partition.topic}/{partition.partition}": end for partition, end in ends.items()}

    def send(self, letters: Sequence[KeptLetter]) -> None:
        refusal: KafkaError | None = None
        try:
            futures = []
            for letter in letters:
                try:
                    futures.append(self._send(letter))
                except MessageSizeTooLargeError as error:
                    refusal = error
            for future in futures:
                try:
                    future.get(timeout=2 * DELIVERY_MS / 1000)
                except _REFUSALS as error:
                    refusal = error
                except KafkaError as error:
                    # An idempotent producer sends nothing more after a record was refused.
                    if refusal is None or isinstance(error, _UNKNOWN):
                        raise
        except KafkaError as error:
            raise OSError(f"letters cannot be sent: {str(error) or type(error).__name__}") from error
        if refusal is not None:
            self._end_producer()
            raise RecordRefusedError(str(refusal)) from refusal

    def _send(self, letter: KeptLetter) -> Any:
        if self._producer is None:
            own: dict[str, Any] = {"client_id": "custodes-replay", "acks": "all", "enable_idempotence": True}
            own |= {
                "transactional_id": None,
                "retries": float("inf"),
                "max_in_flight_requests_per_connection": 1,
                "linger_ms": 0,
            }
            own |= {"delivery_timeout_ms": DELIVERY_MS, "request_timeout_ms": DELIVERY_MS // 2}
            own |= {"max_block_ms": DELIVERY_MS // 2, "max_request_size": self._most_bytes + _HEADER_BYTES}
            self._producer = client(KafkaProducer, self._settings, **own)
        topic, partition = letter.origin or ("", 0)
        headers = [(REPLAYED_HEADER, letter.identity.encode())]
        return self._producer.send(topic, value=letter.value, partition=partition, headers=headers)

    def arrived(self, batch: LetterBatch) -> list[str]:
        starts = {}
        for name, end in batch.ends.items():
            topic, _, number = name.rpartition("/")
            starts[TopicPartition(topic, int(number))] = end
        records = self._reader.read(self._reader.ends(list(starts)), starts)
        identities = [dict(record.headers).get(REPLAYED_HEADER) for record in records]
        return [identity.decode(errors="replace") for identity in identities if identity is not None]

    def _end_producer(self) -> None:
        producer, self._producer = self._producer, None
        end_producer(producer)

    def close(self) -> None:
        """Closes the connections, except that of the reader."""
        if self._producer is not None:
            self._end_producer()


class ReadableLetters:
    """Finds the letters that an engine with the current mapping and limits does not reject."""

    def __init__(self, engine: Engine, reasons: Collection[str] = ()) -> None:
        """``engine`` has no rules. With ``reasons``, only letters with one of these are selected."""
        self.result = ReplayedLetters()
        self._engine, self._reasons = engine, frozenset(reasons)
        self._seen: set[str] = set()

    def select(self, letters: Iterable[KeptLetter | UnreadableLetter]) -> Iterator[KeptLetter]:
        """Yields the letters that may be readable, without copies; counts all others."""
        for letter in letters:
            if isinstance(letter, UnreadableLetter):
                self.result.stay["not_a_letter"] += 1
                self.result.unreadable.append(letter)
            elif letter.identity in self._seen:
                self.result.copies += 1
            elif self._reasons and letter.reason not in self._reasons:
                self.result.not_selected += 1
            else:
                self._seen.add(letter.identity)
                yield letter

    def read(self, letters: Sequence[KeptLetter]) -> list[KeptLetter]:
        """Returns the letters that the engine accepts; counts all others."""
        whole = []
        for letter in letters:
            if letter.is_cut or letter.reason == _CORRUPT_BATCH:
                self.result.stay["cut" if letter.is_cut else letter.reason] += 1
            else:
                whole.append(letter)
        values = numbered(letter.value for letter in whole)
        rejects = self._engine.process_records(values, 0, int(time.time() * 1e6)).rejects
        self.result.stay.update(reject.reason for reject in rejects)
        rejected = {reject.position for reject in rejects}
        return [letter for number, letter in enumerate(whole) if number not in rejected]


def readable_lines(letters: Iterable[KeptLetter | UnreadableLetter], readable: ReadableLetters) -> Iterator[bytes]:
    """Yields each readable record as one line of JSON Lines, in the order of the letters."""
    for chunk in _chunks(readable.select(letters)):
        for letter in readable.read(chunk):
            readable.result.sent[letter.reason] += 1
            # A line end within JSON is white space.
            yield letter.value.replace(b"\r", b" ").replace(b"\n", b" ").strip() + b"\n"


class LetterReplay:
    """Sends the readable letters of a store to the topics of the source."""

    def __init__(self, store: LetterStore, topics: SourceTopics, readable: ReadableLetters) -> None:
        self.result = readable.result
        self._store, self._topics, self._readable = store, topics, readable
        self._run = str(uuid.uuid4())

    def run(self, *, is_dry: bool = False) -> None:
        """Sends all letters that can be sent; with ``is_dry``, only counts them.

        Raises :class:`ReplayInProgressError`, and ``OSError``; a later run continues then.
        """
        notes = self._store.notes()
        for batch in list(notes.unfinished.values()):
            arrived = self._topics.arrived(batch)
            notes.sent.update(arrived)
            if not is_dry:
                self._store.note_sent(arrived)
                self._store.end(batch.run)
        for chunk in _chunks(self._readable.select(self._store.letters())):
            unsent = [letter for letter in chunk if letter.identity not in notes.sent]
            self.result.already_sent += len(chunk) - len(unsent)
            letters = [letter for letter in self._readable.read(unsent) if self._can_be_sent(letter)]
            # The order of the source, as far as it is known.
            letters.sort(key=lambda letter: (letter.origin or ("", 0), letter.position))
            if is_dry:
                self.result.sent.update(letter.reason for letter in letters)
            elif letters:
                self._send(letters)

    def _can_be_sent(self, letter: KeptLetter) -> bool:
        origin = letter.origin
        if origin is None or not self._topics.has(origin):
            self.result.stay["no_topic"] += 1
            return False
        if letter.position >= self._topics.committed(origin):
            self.result.stay["uncommitted"] += 1
            return False
        return True

    def _send(self, letters: Sequence[KeptLetter]) -> None:
        origins = {letter.origin for letter in letters if letter.origin is not None}
        batch = LetterBatch(self._run, self._topics.ends(origins))
        self._store.begin(batch)
        try:
            self._topics.send(letters)
            arrived = {letter.identity for letter in letters}
        except RecordRefusedError:
            arrived = set(self._topics.arrived(batch))
        sent = [letter for letter in letters if letter.identity in arrived]
        self._store.note_sent([letter.identity for letter in sent])
        self._store.end(self._run)
        self.result.sent.update(letter.reason for letter in sent)
        rest = [letter for letter in letters if letter.identity not in arrived]
        if len(letters) == 1:
            self.result.refused.update(str(letter.place["topic"]) for letter in rest)
            return
        # One of them was refused, and the producer has sent none after it.
        for half in (rest[: len(rest) // 2], rest[len(rest) // 2 :]):
            if half:
                self._send(half)


def _chunks(letters: Iterable[KeptLetter]) -> Iterator[list[KeptLetter]]:
    chunk: list[KeptLetter] = []
    size = 0
    for letter in letters:
        if chunk and (len(chunk) >= _MOST_LETTERS or size + len(letter.value) > _MOST_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(letter)
        size += len(letter.value)
    if chunk:
        yield chunk
