"""JSON Lines from files and standard input: plain, gzip or zstd.

Each file is a stream of its own. Files are read in turns: next is always the file that is the least advanced in event
time. A file is opened when the others have come to its first event, so that files of consecutive months are read one
after the other, and files of several servers together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from heapq import heapify, heappop, heappush
from pathlib import Path

from custodes._core import count_lines
from custodes.sources.event_times import SAMPLE, EventTimes, first_lines, last_lines
from custodes.sources.file_faults import FileFault
from custodes.sources.line_reader import LinePiece, LineReader, UnreadRest
from custodes.sources.messages import (
    LineChunk,
    SourceMessage,
    StatelessSource,
    StreamExpected,
    StreamIdle,
    StreamJoined,
)
from custodes.sources.raw_files import OpenFiles, RawFile, StandardInput

BLOCK = 2 << 20
"""Bytes per piece of a single file: large enough to amortize the fixed cost of a batch, small enough for the cache."""
_SMALLEST = 128 << 10
"""Bytes per piece of one of many files: they are all in memory."""
_TURN = 4 << 10
"""Bytes that are counted of a file before it is the turn of another. Short turns keep the events nearly in order, in
which they are counted faster; each turn has a fixed cost."""
_APART = timedelta(hours=1) // timedelta(microseconds=1)
"""Event time, in microseconds, by which a file may be ahead of others. The baselines of a day must be complete before
they are used, so it is less than a day."""
_FIRST = 64 << 10
"""Bytes of a file that are read for the time of its first events."""
_MOST_AHEAD = 16
"""Maximum number of files of which the next piece is read in advance."""
_STANDARD_INPUT = Path("-")
_UNKNOWN = -1
"""Time of a file of which no event was read yet: it is read first."""

_Piece = LinePiece | UnreadRest | None


class _File:
    """One file, read as a stream of its own."""

    def __init__(self, path: Path, stream: int) -> None:
        self.path = path
        self.stream = stream
        self.line = 1
        """Number of the next line."""
        self.next_time = _UNKNOWN
        """Time of the next event, in microseconds."""
        self.text = b""
        """Lines that were read and not all counted."""
        self.at = 0
        """Number of bytes of the text that were counted."""
        self.is_complete = False
        """Whether the rest of the text is the end of the file."""
        self.fault: UnreadRest | None = None
        """Fault that follows the text."""
        self.has_ended = False
        self.reader: LineReader | None = None
        self.raw: RawFile | None = None
        self.ready: Future[_Piece] | None = None
        """The next piece, if it is read in advance."""

    @property
    def is_standard_input(self) -> bool:
        return self.path == _STANDARD_INPUT

    def open(self, files: OpenFiles) -> LineReader:
        """Starts to read the file."""
        if self.is_standard_input:
            self.reader = LineReader(StandardInput(), BLOCK)
        else:
            self.raw = RawFile(self.path, files)
            self.reader = LineReader(self.raw, BLOCK)
        return self.reader

    def close(self) -> None:
        """Ends reading the file."""
        self.reader = None
        if self.raw is not None:
            self.raw.close()


class _Reading:
    """Reads pieces of files. A thread reads, decompresses and splits the next ones while others are counted."""

    def __init__(self) -> None:
        self._open = OpenFiles()
        self._thread = ThreadPoolExecutor(1, "read-ahead")
        self._begun: set[_File] = set()
        self._ahead = 0

    def sample(self, file: _File) -> bytes:
        """Returns the first lines of a file; nothing if they cannot be read."""
        if file.is_standard_input:
            # It can be read only once.
            file.ready = Future()
            file.ready.set_result(self._start(file).next())
            self._ahead += 1
            piece = file.ready.result()
        else:
            piece = self._thread.submit(self._read_first, file.path).result()
        return piece.text if isinstance(piece, LinePiece) else b""

    def _read_first(self, path: Path) -> _Piece:
        raw = RawFile(path, self._open)
        piece = LineReader(raw, _FIRST).next()
        raw.close()
        return piece

    def next(self, file: _File) -> _Piece:
        """Returns the next piece of a file, or the fault that ends it; ``None`` at its end."""
        reader = file.reader or self._start(file)
        reader.piece_bytes = max(_SMALLEST, BLOCK // len(self._begun))
        if file.ready is not None:
            piece = file.ready.result()
            file.ready = None
            self._ahead -= 1
        elif file.is_standard_input:
            # A pipe can be silent for hours, and a thread that waits for it could not be stopped.
            piece = reader.next()
        else:
            piece = self._thread.submit(reader.next).result()
        if not isinstance(piece, LinePiece):
            self._end(file)
        elif not file.is_standard_input and self._ahead < _MOST_AHEAD:
            file.ready = self._thread.submit(reader.next)
            self._ahead += 1
        return piece

    def _start(self, file: _File) -> LineReader:
        self._begun.add(file)
        return file.open(self._open)

    def _end(self, file: _File) -> None:
        self._begun.discard(file)
        self._thread.submit(file.close).result()

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)
        self._open.close()


class FileSource(StatelessSource):
    """Reads files in the order of event time. Line numbers are per file."""

    name = "file"

    def __init__(
        self, paths: Sequence[Path], times: EventTimes, on_bytes: Callable[[int], None] = lambda _: None
    ) -> None:
        """``on_bytes`` receives the number of decompressed bytes of each piece, for progress."""
        self._paths = list(paths)
        self._times = times
        self._on_bytes = on_bytes
        self._reading = _Reading()
        self._waiting: list[tuple[int, int, _File]] = []
        """Files that are not read to the end, by event time."""
        self._has_begun = False

    def poll(self, timeout: float) -> list[SourceMessage]:
        if not self._has_begun:
            self._has_begun = True
            files = [_File(path, stream) for stream, path in enumerate(self._paths)]
            joined = self._join(files) if len(files) > 1 else []
            self._waiting = [(file.next_time, file.stream, file) for file in files]
            heapify(self._waiting)
            if joined:
                return joined
        while self._waiting:
            _, _, file = heappop(self._waiting)
            messages = list(self._turn(file))
            if not file.has_ended:
                heappush(self._waiting, (file.next_time, file.stream, file))
            if messages:
                return messages
        return []

    def _join(self, files: Sequence[_File]) -> list[SourceMessage]:
        """Reads the time of the first events of each file: until then, the file holds back the watermark."""
        expected: list[SourceMessage] = []
        for file in files:
            time = self._times.at_start(self._reading.sample(file))
            if time is not None:
                file.next_time = time
                expected.append(StreamExpected(file.stream, time))
        return [*(StreamJoined(file.stream) for file in files), *expected]

    def _turn(self, file: _File) -> Iterator[SourceMessage]:
        """Yields the next part of a file, up to the next event of another file."""
        self._fill(file)
        if file.at == len(file.text):
            file.has_ended = True
            if file.fault is not None:
                error = file.fault.error
                yield FileFault(file.stream, file.fault.line, error.reason.value, error.detail, file.fault.fragment)
            yield StreamIdle(file.stream)
            return
        text = file.text[file.at : self._end_of_turn(file)]
        self._on_bytes(len(text))
        yield LineChunk(file.stream, text, file.line)
        file.line += count_lines(text)
        file.at += len(text)
        if self._waiting:
            yield from self._pause(file, text)

    def _fill(self, file: _File) -> None:
        """Reads more of a file if only some lines are left, of which one could have a wrong time."""
        needed = SAMPLE if self._waiting else 1
        while not file.is_complete and len(first_lines(file.text, file.at)) < needed:
            piece = self._reading.next(file)
            if isinstance(piece, LinePiece):
                file.text, file.at = file.text[file.at :] + piece.text, 0
            else:
                file.is_complete, file.fault = True, piece

    def _end_of_turn(self, file: _File) -> int:
        """Returns the end of the lines that are before the next event of another file, or little after it."""
        text, end = file.text, len(file.text)
        limit = self._waiting[0][0] if self._waiting else None
        if limit is None or not self._times.is_over(text, limit):
            return end
        end = file.at
        while end < len(text):
            end = text.find(b"\n", end + _TURN) + 1 or len(text)
            time = self._times.at_start(text, end)
            if time is not None and time > limit:
                break
        if self._times.is_over(text[file.at : end], limit + _APART):
            end = self._times.end(text, file.at, limit + _APART)
        return end

    def _pause(self, file: _File, text: bytes) -> Iterator[SourceMessage]:
        """Reads the time of the next event. After a pause, the file holds back the watermark at that time."""
        self._fill(file)
        time = self._times.at_start(file.text, file.at)
        if time is None:
            return
        last = self._times.earliest(last_lines(text))
        if last is not None and time - last > _APART:
            yield StreamExpected(file.stream, time)
        file.next_time = max(file.next_time, time)

    def describe(self, stream: int) -> dict[str, str | int]:
        return {"file": str(self._paths[stream])}

    def lag(self) -> int:
        return 0

    @property
    def finished(self) -> bool:
        return self._has_begun and not self._waiting

    def close(self) -> None:
        self._waiting = []
        self._reading.close()
