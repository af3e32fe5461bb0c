"""JSON Lines from files and standard input: plain, gzip or zstd."""

from __future__ import annotations

import gzip
import io
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import zstandard

from custodes._core import count_lines
from custodes.sources.messages import LineChunk, SourceMessage, StatelessSource

BLOCK = 2 << 20
"""Bytes per read: large enough to amortize the fixed cost of a batch, small enough for the cache."""


def open_lines(path: Path, closing: ExitStack) -> IO[bytes]:
    """Opens a file for reading, decompressed according to its first bytes; ``-`` is standard input.

    ``closing`` receives everything that must be closed afterwards.
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


@dataclass(frozen=True)
class _Chunk:
    """A piece of a file."""

    text: bytes
    """Complete lines; empty at the end of the file, or if a block contains no line end."""
    lines: int
    """Number of line ends."""
    read: int
    """Number of decompressed bytes read; 0 at the end of the file."""


class _ChunkReader:
    """Yields the pieces of a file, split at line ends."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._rest = b""

    def next(self) -> _Chunk:
        block = self._file.read(BLOCK)
        end = block.rfind(b"\n") + 1
        if not block:
            text, self._rest = self._rest, b""
        elif end == 0:
            text, self._rest = b"", self._rest + block
        else:
            text = b"".join((self._rest, memoryview(block)[:end]))
            self._rest = block[end:]
        return _Chunk(text, count_lines(text), len(block))


class _ReadAhead:
    """Reads, decompresses and splits the next piece in a separate thread while the previous one is counted."""

    def __init__(self, pieces: _ChunkReader, closing: ExitStack) -> None:
        self._pieces = pieces
        self._thread = closing.enter_context(ThreadPoolExecutor(1, "read-ahead"))
        self._next = self._thread.submit(pieces.next)

    def next(self) -> _Chunk:
        piece = self._next.result()
        if piece.read:
            self._next = self._thread.submit(self._pieces.next)
        return piece


class FileSource(StatelessSource):
    """Reads files one after the other as one stream. Line numbers are per file."""

    name = "file"

    def __init__(self, paths: Sequence[Path], on_bytes: Callable[[int], None] = lambda _: None) -> None:
        """``on_bytes`` receives the number of decompressed bytes of each block, for progress."""
        self._waiting = list(paths)
        self._on_bytes = on_bytes
        self._pieces: _ChunkReader | _ReadAhead | None = None
        self._closing = ExitStack()
        self._path = Path()
        self._line = 1

    def poll(self, timeout: float) -> list[SourceMessage]:
        while not self.finished:
            if self._pieces is None:
                self._path = self._waiting.pop(0)
                self._pieces = self._start_reading(open_lines(self._path, self._closing))
                self._line = 1
            piece = self._pieces.next()
            self._on_bytes(piece.read)
            if not piece.read:
                self.close()
            if piece.text:
                first_line = self._line
                self._line += piece.lines
                return [LineChunk(0, piece.text, first_line)]
        return []

    def _start_reading(self, file: IO[bytes]) -> _ChunkReader | _ReadAhead:
        pieces = _ChunkReader(file)
        # A pipe can be silent for hours, and a thread that waits for it could not be stopped.
        return pieces if str(self._path) == "-" else _ReadAhead(pieces, self._closing)

    def describe(self, stream: int) -> dict[str, str | int]:
        return {"file": str(self._path)}

    def lag(self) -> int:
        return 0

    @property
    def finished(self) -> bool:
        return self._pieces is None and not self._waiting

    def close(self) -> None:
        self._pieces = None
        self._closing.close()
