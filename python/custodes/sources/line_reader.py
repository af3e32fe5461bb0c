"""Lines of one file, in pieces: decompressed, in UTF-8, up to the first fault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from custodes._core import count_lines
from custodes.sources.decompression import decompressed
from custodes.sources.file_faults import FileFaultReason, FileReadError
from custodes.sources.file_format import other_format
from custodes.sources.raw_files import RawBytes
from custodes.sources.text_encoding import as_utf8, with_line_feeds, without_marks

_HEAD = 64 << 10
"""Number of bytes by which the format of a file is recognised."""
_LONGEST_LINE = 64 << 20
"""Number of bytes of a line that are kept. The engine rejects such a line as too large."""


@dataclass(frozen=True)
class LinePiece:
    """Complete lines of a file."""

    text: bytes
    first_line: int
    lines: int
    """Number of line ends."""


@dataclass(frozen=True)
class UnreadRest:
    """Fault that ends a file."""

    error: FileReadError
    line: int
    fragment: bytes
    """Incomplete line before the fault."""


class LineReader:
    """Reads a file in pieces that end with a line."""

    def __init__(self, raw: RawBytes, piece_bytes: int) -> None:
        self.piece_bytes = piece_bytes
        """Smallest size of a piece; may change between pieces."""
        text = with_line_feeds(as_utf8(decompressed(raw)))
        self._pieces = self._read(_bounded(_recognised(text)))

    def next(self) -> LinePiece | UnreadRest | None:
        """Returns the next piece, or the fault that ends the file; ``None`` at its end."""
        return next(self._pieces, None)

    def _read(self, blocks: Iterator[bytes]) -> Iterator[LinePiece | UnreadRest]:
        line, waiting, size = 1, list[bytes | memoryview](), 0
        error = None
        try:
            for block in blocks:
                size += len(block)
                end = block.rfind(b"\n") + 1 if size >= self.piece_bytes else 0
                if end:
                    piece = _piece(b"".join([*waiting, memoryview(block)[:end]]), line)
                    line += piece.lines
                    yield piece
                    waiting, size = [], len(block) - end
                waiting.append(block[end:])
        except FileReadError as caught:
            error = caught
        text = b"".join(waiting)
        end = len(text) if error is None else text.rfind(b"\n") + 1
        if end:
            piece = _piece(text[:end], line)
            line += piece.lines
            yield piece
        if error is not None:
            yield UnreadRest(error, line, text[end:])


def _piece(text: bytes, first_line: int) -> LinePiece:
    return LinePiece(without_marks(text), first_line, count_lines(text))


def _recognised(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yields the blocks of a file. Raises :class:`FileReadError` if it is in another format."""
    head, error = b"", None
    try:
        for block in blocks:
            head += block
            if len(head) >= _HEAD:
                break
    except FileReadError as caught:
        error = caught
    found = other_format(without_marks(head[:_HEAD]))
    if found is not None and (error is None or error.reason is not FileFaultReason.damaged):
        raise FileReadError(FileFaultReason.other_format, str(found))
    if head:
        yield head
    if error is not None:
        raise error
    yield from blocks


def _bounded(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yields the blocks of a file without the bytes of a line beyond the longest one that is kept."""
    length = 0
    for block in blocks:
        end = block.find(b"\n")
        first = len(block) if end < 0 else end
        kept = max(0, min(first, _LONGEST_LINE - length))
        yield block if kept == first else block[:kept] + block[first:]
        length = length + first if end < 0 else len(block) - block.rfind(b"\n") - 1
