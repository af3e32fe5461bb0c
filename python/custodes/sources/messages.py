"""What a source hands over: batches of records, and streams that come, go or fall silent."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from custodes._core import Engine, Outcome

if TYPE_CHECKING:
    from custodes._core import SourceRecord  # a protocol: it has no object at run time


@dataclass(frozen=True)
class LineChunk:
    """A piece of a JSON Lines stream that ends with a whole line."""

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

    def feed(self, engine: Engine, now: int | None) -> Outcome:
        return engine.process_records(self.records, self.stream, now)


@dataclass(frozen=True)
class FetchedBatches:
    """What a fetch of one partition brought, or a part of it, as Kafka's record batches."""

    stream: int
    data: bytes
    span: tuple[int, int]
    """The part of ``data`` that is meant: from, to."""
    position: int
    aborted: list[tuple[int, int]] | None

    def feed(self, engine: Engine, now: int | None) -> Outcome:
        return engine.process_fetched(self.data, self.position, self.stream, now, self.aborted, self.span)


@dataclass(frozen=True)
class StreamJoined:
    """A stream that may hold the watermark back from now on."""

    stream: int

    def feed(self, engine: Engine, now: int | None) -> Outcome | None:
        engine.join(self.stream)
        return None


@dataclass(frozen=True)
class StreamLeft:
    """A stream that is somebody else's now."""

    stream: int

    def feed(self, engine: Engine, now: int | None) -> Outcome:
        return engine.leave(self.stream)


@dataclass(frozen=True)
class StreamIdle:
    """A stream that has been silent for long enough not to be waited for."""

    stream: int

    def feed(self, engine: Engine, now: int | None) -> Outcome:
        return engine.set_idle(self.stream)


@dataclass(frozen=True)
class StreamGap:
    """A stream goes on elsewhere than where it was: what lies between was never seen, or will be seen once more."""

    stream: int
    expected: int
    """The position that was to be read next."""
    position: int
    """The one that is."""

    @property
    def missed(self) -> int:
        """Positions passed over."""
        return max(0, self.position - self.expected)

    def feed(self, engine: Engine, now: int | None) -> Outcome | None:
        if self.position < self.expected:
            engine.reset_stream(self.stream)
        return None


SourceMessage = LineChunk | RecordList | FetchedBatches | StreamJoined | StreamLeft | StreamIdle | StreamGap


@dataclass(frozen=True)
class RepartitionRecords:
    """Records of the repartition topic, of one share, in their order."""

    stream: int
    values: Sequence[tuple[int, bytes]]
    """Of each its offset and its bytes."""


@dataclass(frozen=True)
class StreamPosition:
    """Where a source stands in one stream."""

    stream: int
    name: str
    """What the source calls it, the same in every process."""
    position: int
    """The position of the next event to be handed over."""
    ours: bool = True
    """Whether the stream is this source's now, and not somebody else's since it stood there."""


def positions(places: Iterable[StreamPosition]) -> dict[int, int]:
    """By stream, the position of its next event, as the engine asks for it."""
    return {place.stream: place.position for place in places}


class EventSource(Protocol):
    """A place events come from. Used from one thread."""

    name: str
    """The label of ``custodes_events_total``."""

    def poll(self, timeout: float) -> Sequence[SourceMessage | RepartitionRecords]:
        """What has come; waits up to ``timeout`` seconds for something. Empty means nothing yet."""

    def describe(self, stream: int) -> dict[str, str | int]:
        """Where a stream is: file, or topic and partition."""

    def commit(self, streams: Container[int] | None = None) -> None:
        """Everything handed over so far of these streams, or of all, has been dealt with."""

    def lag(self) -> int:
        """Records that are there but not handed over yet, as far as is known."""

    @property
    def connected(self) -> bool:
        """Whether it hears whoever it has events from."""

    @property
    def finished(self) -> bool:
        """Whether nothing will ever come again."""

    def close(self) -> None:
        """Lets go of files and connections."""


class ResumableSource(EventSource, Protocol):
    """A source that goes on where another process was."""

    def poll(self, timeout: float) -> Sequence[SourceMessage]: ...

    def places(self) -> list[StreamPosition]:
        """Where it stands in each stream it knows; empty if it can't begin there in another process."""

    def resume(self, places: Sequence[StreamPosition]) -> None:
        """Begins where another process was. Called before the first poll."""


class StatelessSource:
    """The part of a source that has nothing to remember: every process hears it from its start."""

    def commit(self, streams: Container[int] | None = None) -> None:
        """Nothing to note."""

    def places(self) -> list[StreamPosition]:
        return []

    def resume(self, places: Sequence[StreamPosition]) -> None:
        """There is nothing to go on from."""

    @property
    def connected(self) -> bool:
        return True
