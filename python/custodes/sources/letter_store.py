"""Dead letters as they are kept, with notes of which of them were sent again.

A run writes notes: *begin* before a batch, with the ends of the topics that the batch is sent to; *sent* after the
broker has acknowledged it; and *end*, or *withdrawn* if it sent nothing because another run had begun first. A begin
without an end belongs to a run that was killed, or that is sending now. What it sent is read from the topics, from the
noted ends on.

Notes about letters in a file are in a file next to it, which one process locks. Notes about letters in a topic are
records of that topic: they need no other system, and every machine sees them. A *sent* note is in every partition, so
that retention deletes it after all copies of its letters.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import orjson
from kafka import KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from custodes.config.model import KafkaSourceSettings as KafkaSettings
from custodes.encryption.keys import Keys
from custodes.sources.client import client
from custodes.sources.connections import end_producer
from custodes.sources.dead_letters import KeptLetter, read_letter
from custodes.sources.topic_reader import TopicReader

NOTE_HEADER = "custodes.replay"
"""Header of the notes in a dead-letter topic; its value is the kind of the note."""
DELIVERY_MS = 20_000
"""Milliseconds after which a producer gives a record up."""
SETTLED_AFTER = DELIVERY_MS / 1000 + 10
"""Seconds after which a run that has begun a batch has ended it or was killed, and after which its records are
replicated and can be read: more than :data:`DELIVERY_MS`."""
_LOOK_EVERY = 0.5
_IN_A_NOTE = 100
"""Letters in one note, about 60 bytes each: a topic for dead letters can have a small ``max.message.bytes``."""
_PREFIX = "custodes."


class ReplayInProgressError(Exception):
    """Another run sends the same letters."""


@dataclass(frozen=True)
class LetterBatch:
    """Letters that one run sends together."""

    run: str
    """Id of the run."""
    ends: Mapping[str, int]
    """End of each topic partition that they are sent to, as ``topic/partition``, before they were sent."""


@dataclass(frozen=True)
class UnreadableLetter:
    """A line or record that is not a dead letter, or cannot be decrypted."""

    place: str
    """File and line, or topic, partition and offset."""
    problem: str


@dataclass
class ReplayNotes:
    """What the notes say."""

    unfinished: dict[str, LetterBatch] = field(default_factory=dict)
    """Batches that have begun and not ended, by run."""
    batches: Counter[str] = field(default_factory=Counter)
    """Number of batches of each run that have begun, without those that were withdrawn."""
    sent: set[str] = field(default_factory=set)
    """Identities of the letters that were sent."""

    def add(self, note: bytes) -> None:
        """Adds a note. Raises ``ValueError`` if it is malformed."""
        match orjson.loads(note):
            case {"begin": str(run), "ends": dict(ends)}:
                self.unfinished[run] = LetterBatch(run, ends)
                self.batches[run] += 1
            case {"sent": list(identities)}:
                self.sent.update(identities)
            case {"end": str(run)}:
                self.unfinished.pop(run, None)
            case {"withdrawn": str(run)}:
                self.unfinished.pop(run, None)
                self.batches[run] -= 1
            case _:
                raise ValueError("it is no note of a replay")


class LetterStore(Protocol):
    """Where dead letters and notes are kept."""

    name: str

    def notes(self) -> ReplayNotes:
        """Returns the notes of earlier runs. Called first.

        Raises :class:`ReplayInProgressError`, and ``OSError``.
        """

    def letters(self) -> Iterator[KeptLetter | UnreadableLetter]:
        """Yields the letters that were there when the notes were read. Raises ``OSError``."""

    def begin(self, batch: LetterBatch) -> None:
        """Returns once it is noted that a batch begins.

        Raises :class:`ReplayInProgressError` if another run has begun one, and ``OSError``.
        """

    def note_sent(self, identities: Sequence[str]) -> None:
        """Returns once it is noted that letters were sent. Raises ``OSError``."""

    def end(self, run: str) -> None:
        """Returns once it is noted that the batch of a run has ended. Raises ``OSError``."""

    def close(self) -> None: ...


class FileLetterStore:
    """A dead-letter file, with notes in ``<file>.replayed``."""

    def __init__(
        self,
        path: Path,
        keys: Keys,
        *,
        is_dry: bool = False,
        settled_after: float = SETTLED_AFTER,
        on_wait: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """With ``is_dry``, nothing is written and nothing is locked. After a run that was killed, :meth:`notes` waits
        until its last note is ``settled_after`` seconds old; ``on_wait`` receives the seconds. Raises ``OSError``.
        """
        self.name = str(path)
        self._keys = keys
        self._letters = path.open("rb")
        self._size = os.fstat(self._letters.fileno()).st_size
        self._path = path.with_name(f"{path.name}.replayed")
        self._is_dry, self._settled_after, self._on_wait = is_dry, settled_after, on_wait
        self._notes: BinaryIO | None = None

    def notes(self) -> ReplayNotes:
        notes = ReplayNotes()
        if self._is_dry and not self._path.exists():
            return notes
        self._notes = self._path.open("rb", buffering=0) if self._is_dry else self._locked()
        text, written_at = self._notes.read(), os.fstat(self._notes.fileno()).st_mtime
        complete = text.rfind(b"\n") + 1
        if complete < len(text) and not self._is_dry:
            # A run was killed while it wrote the last line.
            self._notes.truncate(complete)
        for number, line in enumerate(text[:complete].splitlines(), 1):
            try:
                notes.add(line)
            except ValueError as error:
                raise OSError(f"{self._path}:{number}: {error}") from error
        # A clock that was set back must not make the wait longer.
        wait = min(self._settled_after, written_at + self._settled_after - time.time())
        if notes.unfinished and not self._is_dry and wait > 0:
            self._on_wait(wait)
            time.sleep(wait)
        return notes

    def _locked(self) -> BinaryIO:
        def private(path: str, flags: int) -> int:
            return os.open(path, flags, 0o600)

        file = open(self._path, "a+b", buffering=0, opener=private)  # noqa: SIM115 - locked until close()
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise ReplayInProgressError(f"another run sends the letters of {self.name}") from error
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        file.seek(0)
        return file

    def letters(self) -> Iterator[KeptLetter | UnreadableLetter]:
        self._letters.seek(0)
        for number, line in enumerate(self._letters, 1):
            if self._letters.tell() > self._size or not line.endswith(b"\n"):
                # The monitor appends meanwhile.
                return
            try:
                yield read_letter(line, self._keys)[0]
            except (OSError, ValueError) as error:
                yield UnreadableLetter(f"{self.name}:{number}", str(error))

    def begin(self, batch: LetterBatch) -> None:
        self._write({"begin": batch.run, "ends": dict(batch.ends)})

    def note_sent(self, identities: Sequence[str]) -> None:
        self._write({"sent": list(identities)})

    def end(self, run: str) -> None:
        self._write({"end": run})

    def _write(self, note: dict[str, Any]) -> None:
        if self._notes is None:
            raise ValueError("the notes must be read first")
        text = memoryview(orjson.dumps(note, option=orjson.OPT_APPEND_NEWLINE))
        while text:
            text = text[self._notes.write(text) :]
        os.fsync(self._notes.fileno())

    def close(self) -> None:
        self._letters.close()
        if self._notes is not None:
            self._notes.close()


class TopicLetterStore:
    """A dead-letter topic. Notes are records without a key, with the header ``custodes.replay``."""

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        reader: TopicReader,
        *,
        is_dry: bool = False,
        on_wait: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """``reader`` reads notes only. ``on_wait`` receives the number of seconds for which :meth:`notes` waits at most
        for an earlier run."""
        self.name = topic
        self._settings, self._reader, self._on_wait = settings, reader, on_wait
        self._letters: TopicReader | None = None
        self._is_dry = is_dry
        self._first = TopicPartition(topic, 0)
        self._ends: dict[TopicPartition, int] = {}
        self._read_to = 0
        """Offset in the first partition up to which batches of other runs are known."""
        self._producer: Any = None

    def notes(self) -> ReplayNotes:
        partitions = self._reader.partitions(self.name)
        # A run notes last in the first partition that a batch ended. The other partitions are read to where they are
        # after that, so that the notes of the batch are among what is read.
        first = self._reader.ends([self._first])
        self._ends = self._reader.ends([partition for partition in partitions if partition != self._first]) | first
        self._read_to = first[self._first]
        notes = ReplayNotes()
        for record in self._reader.read(self._ends):
            self._add(notes, record)
        if notes.unfinished and not self._is_dry:
            self._wait_for_end(notes)
        return notes

    def _wait_for_end(self, notes: ReplayNotes) -> None:
        """Raises :class:`ReplayInProgressError` if a run that began a batch is still running."""
        unfinished = dict(notes.unfinished)
        self._on_wait(SETTLED_AFTER)
        until = time.monotonic() + SETTLED_AFTER
        while time.monotonic() < until:
            for record in self._reader.read(self._reader.ends([self._first]), {self._first: self._read_to}):
                self._add(notes, record)
                self._read_to = record.offset + 1
            if notes.unfinished != unfinished:
                raise ReplayInProgressError(f"another run sends the letters of {self.name}")
            time.sleep(_LOOK_EVERY)

    def _add(self, notes: ReplayNotes, record: Any) -> None:
        if any(name == NOTE_HEADER for name, _ in record.headers):
            try:
                notes.add(record.value or b"")
            except ValueError as error:
                raise OSError(f"{self.name}/{record.partition} at {record.offset}: {error}") from error

    def letters(self) -> Iterator[KeptLetter | UnreadableLetter]:
        if self._letters is None:
            # Notes are written and read while letters are read.
            self._letters = TopicReader(self._settings)
        for record in self._letters.read(self._ends):
            headers = {name: value for name, value in record.headers if name.startswith(_PREFIX)}
            if NOTE_HEADER not in headers:
                yield _letter(record, headers)

    def begin(self, batch: LetterBatch) -> None:
        (offset,) = self._write([(0, "begin", {"begin": batch.run, "ends": dict(batch.ends)})])
        # If two runs begin at once, the one whose note is first in the log continues.
        before = ReplayNotes()
        for record in self._reader.read({self._first: offset}, {self._first: self._read_to}):
            self._add(before, record)
        self._read_to = offset + 1
        if any(batches > 0 for run, batches in before.batches.items() if run != batch.run):
            self._write([(0, "withdrawn", {"withdrawn": batch.run})])
            raise ReplayInProgressError(f"another run sends the letters of {self.name}")

    def note_sent(self, identities: Sequence[str]) -> None:
        notes = [{"sent": list(identities[at : at + _IN_A_NOTE])} for at in range(0, len(identities), _IN_A_NOTE)]
        self._write([(partition.partition, "sent", note) for partition in self._ends for note in notes])

    def end(self, run: str) -> None:
        self._write([(0, "end", {"end": run})])

    def _write(self, notes: Sequence[tuple[int, str, dict[str, Any]]]) -> list[int]:
        """Returns the offsets of the notes once they are stored."""
        try:
            if self._producer is None:
                # A note that is stored twice says the same.
                own: dict[str, Any] = {"client_id": "custodes-replay", "acks": "all", "enable_idempotence": False}
                own |= {"delivery_timeout_ms": DELIVERY_MS, "request_timeout_ms": DELIVERY_MS // 2, "linger_ms": 0}
                self._producer = client(KafkaProducer, self._settings, **own)
            sent = [
                self._producer.send(
                    self.name, orjson.dumps(note), partition=partition, headers=[(NOTE_HEADER, kind.encode())]
                )
                for partition, kind, note in notes
            ]
            return [int(future.get(timeout=SETTLED_AFTER).offset) for future in sent]
        except KafkaError as error:
            raise OSError(f"{self.name}: {str(error) or type(error).__name__}") from error

    def close(self) -> None:
        if self._letters is not None:
            self._letters.close()
        if self._producer is not None:
            end_producer(self._producer)


def _letter(record: Any, headers: Mapping[str, bytes]) -> KeptLetter | UnreadableLetter:
    try:
        place: dict[str, str | int] = {
            "topic": headers["custodes.topic"].decode(),
            "partition": int(headers["custodes.partition"]),
        }
        position, reason = int(headers["custodes.offset"]), headers["custodes.reason"].decode()
    except (KeyError, ValueError):
        place_of_letter = f"{record.topic}/{record.partition} at {record.offset}"
        return UnreadableLetter(place_of_letter, "the headers of a dead letter are missing or invalid")
    return KeptLetter(place, position, reason, record.value or b"", "custodes.cut_from_bytes" in headers)
