"""JSON Lines from files and standard input, plain, gzip or zstd."""

from __future__ import annotations

import gzip
import io
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import IO, cast

import zstandard

from custodes._core import count_lines
from custodes.sources.arrivals import Arrival, Lines

BLOCK = 1 << 20
"""Bytes read at a time: enough that a batch's fixed costs vanish, little enough to stay in cache."""


def open_lines(path: Path, closing: ExitStack) -> IO[bytes]:
    """Opens a file for reading, unpacked by what its first bytes say; ``-`` is standard input.

    ``closing`` gets everything that must be closed afterwards.
    """
    raw: IO[bytes] = sys.stdin.buffer if str(path) == "-" else path.open("rb")
    if raw is not sys.stdin.buffer:
        closing.enter_context(raw)
    peekable = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", raw))
    head = peekable.peek(4)[:4]
    if head[:2] == b"\x1f\x8b":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=peekable))
    if head == b"\x28\xb5\x2f\xfd":
        reader = zstandard.ZstdDecompressor().stream_reader(peekable, read_across_frames=True)
        return cast("IO[bytes]", reader)
    return peekable


class _ReadAhead:
    """Reads (and unpacks) the next block in a thread of its own while the one before is counted."""

    def __init__(self, file: IO[bytes], closing: ExitStack) -> None:
        self._file = file
        self._thread = closing.enter_context(ThreadPoolExecutor(1, "read-ahead"))
        self._next = self._thread.submit(file.read, BLOCK)

    def read(self) -> bytes:
        block = self._next.result()
        if block:
            self._next = self._thread.submit(self._file.read, BLOCK)
        return block


class FileSource:
    """Files one after the other, as one stream. Lines are numbered within their file."""

    name = "file"

    def __init__(self, paths: Sequence[Path], on_bytes: Callable[[int], None] = lambda _: None) -> None:
        """``on_bytes`` hears how many bytes (unpacked) each block had, for progress."""
        self._waiting = list(paths)
        self._on_bytes = on_bytes
        self._read: Callable[[], bytes] | None = None
        self._closing = ExitStack()
        self._path = Path()
        self._line = 1
        self._rest = b""

    def poll(self, timeout: float) -> list[Arrival]:
        while not self.finished:
            if self._read is None:
                self._path = self._waiting.pop(0)
                self._read = self._start_reading(open_lines(self._path, self._closing))
                self._line = 1
            block = self._read()
            self._on_bytes(len(block))
            whole = self._take(block)
            if whole:
                first_line = self._line
                self._line += count_lines(whole)
                return [Lines(0, whole, first_line)]
        return []

    def _start_reading(self, file: IO[bytes]) -> Callable[[], bytes]:
        if str(self._path) == "-":
            # A pipe may have nothing to say for hours; a thread that waits for it could not be ended.
            return lambda: file.read(BLOCK)
        return _ReadAhead(file, self._closing).read

    def _take(self, block: bytes) -> bytes:
        """Adds a block; returns what ends with a whole line. An empty block is the file's end."""
        if not block:
            whole, self._rest = self._rest, b""
            self.close()
            return whole
        end = block.rfind(b"\n") + 1
        if end == 0:
            self._rest += block
            return b""
        whole = b"".join((self._rest, memoryview(block)[:end]))
        self._rest = block[end:]
        return whole

    def describe(self, stream: int) -> dict[str, str | int]:
        return {"file": str(self._path)}

    def commit(self) -> None:
        """A file is read from its start every time; there is nothing to remember."""

    def lag(self) -> int:
        return 0

    @property
    def finished(self) -> bool:
        return self._read is None and not self._waiting

    def close(self) -> None:
        self._read = None
        self._closing.close()
