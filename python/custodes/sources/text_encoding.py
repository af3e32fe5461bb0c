"""Encodings of text files: UTF-8 with and without byte order mark, UTF-16 and UTF-32; line ends of every kind."""

from __future__ import annotations

import codecs
from collections.abc import Iterator

_ENCODINGS = (
    # UTF-32 first: its little-endian mark begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    # A JSON object without byte order mark.
    (b"{\0", "utf-16-le"),
    (b"\0{", "utf-16-be"),
)
_LONGEST_MARK = 4


def as_utf8(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yields the blocks of a file in UTF-8; invalid UTF-16 is replaced by U+FFFD.

    A byte order mark remains as that of UTF-8, see :func:`without_marks`.
    """
    head = b""
    for block in blocks:
        head += block
        if len(head) >= _LONGEST_MARK:
            break
    encoding = next((name for mark, name in _ENCODINGS if head.startswith(mark)), None)
    if encoding is None:
        if head:
            yield head
        yield from blocks
        return
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    yield decoder.decode(head).encode()
    for block in blocks:
        yield decoder.decode(block).encode()
    yield decoder.decode(b"", final=True).encode()


def with_line_feeds(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yields the blocks of a file; CR becomes LF if lines end with CR alone. JSON has no CR inside of values."""
    first = next(blocks, b"")
    is_cr = b"\r" in first[:-1] and b"\n" not in first
    yield first.replace(b"\r", b"\n") if is_cr else first
    for block in blocks:
        yield block.replace(b"\r", b"\n") if is_cr else block


def without_marks(lines: bytes) -> bytes:
    """Removes byte order marks at the start of lines: of a file, and of files that were joined to one."""
    mark = codecs.BOM_UTF8
    # The search for one byte is ten times as fast.
    if mark[:1] not in lines or mark not in lines:
        return lines
    return lines.removeprefix(mark).replace(b"\n" + mark, b"\n")
