"""Events far ahead of the other events in their file, such as one of 2031 among those of today.

The clock of a stream is its largest event time. One wrong time would therefore make all later events of its file late.
An event that is more than a day ahead of a later event of its file is held back until all files have come to its time,
or to their end. It is then counted as the only event of another stream.

The engine returns events that are too far ahead as rejects (``time_in_future``), so that files in order cost nothing.
A piece of a file that spans more than a day is first divided where a day ends. Rejected events that no earlier time
follows are no errors and are counted in their place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import groupby

from custodes._core import Engine, Outcome, Reject, count_lines
from custodes.sources.event_times import EventTimes
from custodes.sources.file_faults import FileFault
from custodes.sources.messages import LineChunk, SourceMessage, StreamExpected, StreamIdle, StreamJoined, StreamLeft
from custodes.sources.replay_coverage import FAR_AHEAD, ReplayedBatch

_FEWEST_FOLLOWING = 4
"""Number of lines after an event by which it is judged; the last events of a piece wait for the next piece."""
_MOST_FOLLOWING = 16
_MOST_HELD = 10_000
"""Maximum number of events that are held back; each is a stream of the engine."""
_REASON = "time_in_future"
_NO_EVENT, _END_OF_TIME = -1, 1 << 62


@dataclass(frozen=True, order=True)
class _AheadEvent:
    """An event that is ahead of the events before it."""

    time: int
    file: int
    """Stream of the file."""
    line: int
    text: bytes


class FarAheadEvents:
    """Passes messages of files to an engine, and holds back events that are far ahead of their file.

    Each result is a pair: the stream of the file, and the batch.
    """

    def __init__(self, engine: Engine, times: EventTimes, first_stream: int, latest: int) -> None:
        """Streams from ``first_stream`` on are for events that are held back. Events later than ``latest`` are
        rejected."""
        self._engine = engine
        self._times = times
        self._next_stream = first_stream
        self._latest = latest
        self._clocks: dict[int, int] = {}
        self._reading: dict[int, int] = {}
        """Event time to which each file is read that is not read to its end."""
        self._unjudged: dict[int, list[_AheadEvent]] = {}
        """By file, the last events of a piece that are ahead."""
        self._held: list[tuple[_AheadEvent, int]] = []
        """Events that are held back and their streams, by time."""

    def clock(self, file: int) -> int | None:
        """Returns the event time to which a file was counted; ``None`` before its first event."""
        return self._clocks.get(file)

    def take(self, message: SourceMessage) -> Iterator[tuple[int, ReplayedBatch]]:
        """Counts a message of the files."""
        file = message.stream
        if isinstance(message, FileFault):
            yield file, ReplayedBatch(rejects=[message])
        elif isinstance(message, LineChunk):
            yield from self._count(message)
        else:
            if isinstance(message, StreamJoined):
                self._reading[file] = _NO_EVENT
            elif isinstance(message, StreamExpected):
                yield from self._judge(file, message.time)
                self._reading[file] = message.time
            elif isinstance(message, StreamIdle):
                yield from self._judge(file, None)
                self._reading.pop(file, None)
            yield from self._pass_on(file, message)
            yield from self._release()

    def _count(self, piece: LineChunk) -> Iterator[tuple[int, ReplayedBatch]]:
        """Counts a piece of a file, day by day."""
        start, line = 0, piece.first_line
        while start < len(piece.text):
            begins = self._times.at_start(piece.text, start)
            yield from self._judge(piece.stream, begins)
            times = [time for time in (begins, self.clock(piece.stream)) if time is not None]
            limit = max(times) + FAR_AHEAD if times else self._latest
            stop = self._next_held(limit, begins)
            is_over = self._times.is_over(piece.text, stop)
            end = self._times.end(piece.text, start, stop) if is_over else len(piece.text)
            part = LineChunk(piece.stream, piece.text[start:end], line)
            yield from self._count_day(part, min(limit, self._latest))
            self._reading[piece.stream] = self._clocks.get(piece.stream, _NO_EVENT)
            yield from self._release()
            if end < len(piece.text):
                line += count_lines(part.text)
            start = end

    def _next_held(self, limit: int, begins: int | None) -> int:
        """Returns the time of the next event that is held back, if it is between ``begins`` and ``limit``."""
        held = self._held[0][0].time if self._held else limit
        return held if begins is not None and begins < held < limit else limit

    def _count_day(self, piece: LineChunk, limit: int) -> Iterator[tuple[int, ReplayedBatch]]:
        outcome = self._feed(piece, limit)
        ahead = [reject for reject in outcome.rejects if reject.reason == _REASON]
        rejects = [reject for reject in outcome.rejects if reject.reason != _REASON]
        yield piece.stream, replace(ReplayedBatch.of(outcome), rejects=rejects)
        if ahead:
            yield from self._place(piece, ahead)

    def _feed(self, piece: LineChunk, latest: int) -> Outcome:
        outcome = piece.feed(self._engine, latest)
        if outcome.clock is not None:
            self._clocks[piece.stream] = outcome.clock
        return outcome

    def _place(self, piece: LineChunk, rejected: Sequence[Reject]) -> Iterator[tuple[int, ReplayedBatch]]:
        """Counts events that are ahead of the events before them, or holds them back."""
        lines = piece.text.rstrip().split(b"\n")
        times: dict[int, int] = {}

        def time_of(line: int) -> int:
            if line not in times:
                time = self._times.of(lines[line - piece.first_line])
                times[line] = _END_OF_TIME if time is None else time
            return times[line]

        file = piece.stream
        events = [_AheadEvent(time_of(reject.position), file, reject.position, reject.value) for reject in rejected]
        end = piece.first_line + len(lines)
        far: list[bool] = []
        earliest = _END_OF_TIME
        for event in reversed(events):
            following = range(event.line + 1, min(event.line + 1 + _MOST_FOLLOWING, end))
            far.append(event.time > min([earliest, *map(time_of, following)]) + FAR_AHEAD)
            earliest = min(earliest, event.time)
        far.reverse()
        judged = len(events)
        while judged and not far[judged - 1] and events[judged - 1].line + _FEWEST_FOLLOWING >= end:
            judged -= 1
        self._unjudged[file] = events[judged:]
        yield from self._count_each(file, events[:judged], far)

    def _judge(self, file: int, following: int | None) -> Iterator[tuple[int, ReplayedBatch]]:
        """Counts or holds back the last events of the previous piece; ``following`` is the time of the next event."""
        events = self._unjudged.pop(file, [])
        far = [following is not None and event.time > following + FAR_AHEAD for event in events]
        yield from self._count_each(file, events, far)

    def _count_each(
        self, file: int, events: Sequence[_AheadEvent], far: Sequence[bool]
    ) -> Iterator[tuple[int, ReplayedBatch]]:
        for (is_far, _), run in groupby(enumerate(events), lambda pair: (far[pair[0]], pair[1].line - pair[0])):
            consecutive = [event for _, event in run]
            if is_far:
                for event in consecutive:
                    yield from self._hold_back(event)
            else:
                text = b"".join(event.text + b"\n" for event in consecutive)
                outcome = self._feed(LineChunk(file, text, consecutive[0].line), self._latest)
                yield file, ReplayedBatch.of(outcome)

    def _hold_back(self, event: _AheadEvent) -> Iterator[tuple[int, ReplayedBatch]]:
        """Makes an event a stream of its own, which holds back the watermark at the time of the event."""
        stream, self._next_stream = self._next_stream, self._next_stream + 1
        heappush(self._held, (event, stream))
        yield from self._pass_on(event.file, StreamExpected(stream, event.time))

    def _release(self) -> Iterator[tuple[int, ReplayedBatch]]:
        """Counts the events to whose time all files were read."""
        time = min(self._reading.values(), default=_END_OF_TIME)
        while self._held and (self._held[0][0].time <= time or len(self._held) > _MOST_HELD):
            event, stream = heappop(self._held)
            yield from self._pass_on(event.file, LineChunk(stream, event.text, event.line))
            yield from self._pass_on(event.file, StreamLeft(stream))

    def _pass_on(self, file: int, message: SourceMessage) -> Iterator[tuple[int, ReplayedBatch]]:
        outcome = message.feed(self._engine, self._latest)
        if outcome is not None:
            yield file, ReplayedBatch.of(outcome)
