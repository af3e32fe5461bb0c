"""Messages of a source: batches of records, and streams that join, leave or become idle."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, Self

from custodes._core import Engine, Outcome
from custodes.sources.file_faults import FileFault


class SourceRecord(Protocol):
    """The attributes of a record that the engine reads; kafka-python's ``ConsumerRecord`` has them."""

    @property
    def offset(self) -> int: ...
    @property
    def value(self) -> bytes | None: ...


@dataclass(frozen=True)
class LineChunk:
    """A piece of a JSON Lines stream that ends at a line end."""

    stream: int
    text: bytes
    first_line: int

    def feed(self, engine: Engine, now: int | None) -> Outcome:
        return engine.process_lines(self.text, self.first_line, self.stream, now)


@dataclass(frozen=True)
class RecordList:
    """Records of one partition, in offset order."""

    stream: int
    records: Sequence[SourceRecord]
    log: int = 0
    """Number of the stream's log, see :class:`LogIdentity`."""

    def feed(self, engine: Engine, now: int | None) -> Outcome:
        return engine.process_records(self.records, self.stream, now)


@dataclass(frozen=True)
class FetchedBatches:
    """A fetch of one partition, or a part of it, as Kafka's record batches."""

    stream: int
    data: bytes
    span: tuple[int, int]
    """Start and end of the part of ``data``."""
    position: int
    aborted: list[tuple[int, int]] | None
    log: int = 0
    """Number of the stream's log, see :class:`LogIdentity`."""

    def feed(self, engine: Engine, now: int | None) -> Outcome:
        return engine.process_fetched(self.data, self.position, self.stream, now, self.aborted, self.span)


@dataclass(frozen=True)
class StreamJoined:
    """A stream that holds back the watermark from now on."""

    stream: int

    def feed(self, engine: Engine, now: int | None) -> Outcome | None:
        engine.join(self.stream)
        return None


@dataclass(frozen=True)
class StreamExpected:
    """A stream that is read later: it holds back the watermark at the time of its first event."""

    stream: int
    time: int
    """Time of the first event, in microseconds."""

    def feed(self, engine: Engine, now: int | None) -> Outcome:
        return engine.observe(self.stream, self.time)


@dataclass(frozen=True)
class StreamLeft:
    """A stream that another process reads from now on."""

    stream: int

    def feed(self, engine: Engine, now: int | None) -> Outcome:
        return engine.leave(self.stream)


@dataclass(frozen=True)
class StreamIdle:
    """A stream that was silent long enough to be ignored by the watermark."""

    stream: int

    def feed(self, engine: Engine, now: int | None) -> Outcome:
        return engine.set_idle(self.stream)


class GapCause(StrEnum):
    """Why a stream continues at an unexpected position."""

    deleted = "deleted"
    """Records were deleted before they were read."""
    recreated = "recreated"
    """The topic was deleted and recreated: the stream is another log, read from its start."""
    truncated = "truncated"
    """The broker lost records at the end of the log after they were read: reading continues where the log ends now."""


@dataclass(frozen=True)
class StreamGap:
    """A stream continues at an unexpected position: positions in between are lost, or belong to other records now."""

    stream: int
    expected: int
    """The position that should have been next."""
    position: int
    """The position that is next."""
    cause: GapCause = GapCause.deleted

    @property
    def missed(self) -> int:
        """Number of positions skipped."""
        return max(0, self.position - self.expected)

    def feed(self, engine: Engine, now: int | None) -> Outcome | None:
        if self.is_new_log:
            engine.reset_stream(self.stream)
        return None

    @property
    def is_new_log(self) -> bool:
        """Whether positions from here on mean other records than those that had them before."""
        return self.cause != GapCause.deleted


SourceMessage = (
    LineChunk
    | RecordList
    | FetchedBatches
    | StreamJoined
    | StreamExpected
    | StreamLeft
    | StreamIdle
    | StreamGap
    | FileFault
)


@dataclass(frozen=True)
class RepartitionRecords:
    """Records of one partition of the repartition topic, in order."""

    stream: int
    values: Sequence[tuple[int, bytes]]
    """Offset and bytes of each record."""


@dataclass(frozen=True)
class LogIdentity:
    """The log to which positions of a stream belong. In another log, the same positions are other records."""

    topic_id: str | None = None
    """Kafka's id of the topic, which changes if the topic is recreated; ``None`` if it is unknown, or for a file."""
    leader_epoch: int = -1
    """Leader epoch of the last record before the position, which shows whether the log was truncated; -1 if unknown."""
    number: int = 0
    """How often the log was recreated or truncated; part of the stream's name in the history."""


FIRST_LOG = LogIdentity()
"""The first log of a stream, before anything is known of it."""


@dataclass(frozen=True)
class StreamPosition:
    """The position of a source in one stream."""

    stream: int
    name: str
    """Name of the stream, the same in every process."""
    position: int
    """Position of the next event to deliver."""
    ours: bool = True
    """Whether the source reads the stream now; otherwise another process has read it since this position."""
    log: LogIdentity = FIRST_LOG
    """The log of the position."""

    @classmethod
    def read(cls, saved: Mapping[str, Any]) -> Self:
        """Returns a position from its saved fields. Those written before 0.3 have no identity of the log."""
        return cls(**{**saved, "log": LogIdentity(**saved.get("log", {}))})


def positions(places: Iterable[StreamPosition]) -> dict[int, int]:
    """Returns the position of the next event by stream, for the engine."""
    return {place.stream: place.position for place in places}


class EventSource(Protocol):
    """A source of events. It is used from one thread."""

    name: str
    """The label of ``custodes_events_total``."""

    def poll(self, timeout: float) -> Sequence[SourceMessage | RepartitionRecords]:
        """Returns new messages; waits up to ``timeout`` seconds for one. An empty result means that there is nothing
        yet."""

    def describe(self, stream: int) -> dict[str, str | int]:
        """Returns the origin of a stream: file, or topic and partition."""

    def commit(self, streams: Container[int] | None = None) -> None:
        """Confirms that everything delivered so far from these streams, or from all, is processed."""

    def lag(self) -> int | None:
        """Returns the number of records that are available and not delivered yet; ``None`` if it is not known."""

    @property
    def connected(self) -> bool:
        """Whether the source is connected."""

    @property
    def finished(self) -> bool:
        """Whether the source has ended."""

    def close(self) -> None:
        """Closes files and connections."""


class ResumableSource(EventSource, Protocol):
    """A source that can continue from the position of another process."""

    def poll(self, timeout: float) -> Sequence[SourceMessage]: ...

    def places(self) -> list[StreamPosition]:
        """Returns the position in each known stream; empty if another process cannot start there."""

    def resume(self, places: Sequence[StreamPosition]) -> None:
        """Continues from the positions of another process. Called before the first poll."""


class StatelessSource:
    """Base of sources without saved positions: every process reads them from the start."""

    def commit(self, streams: Container[int] | None = None) -> None:
        """Does nothing: there is no position to save."""

    def places(self) -> list[StreamPosition]:
        return []

    def resume(self, places: Sequence[StreamPosition]) -> None:
        """Does nothing: there is no position to continue from."""

    @property
    def connected(self) -> bool:
        return True
