"""Streaming decompression of gzip and zstd that loses nothing before a truncated or damaged place.

The libraries discard what a call has decompressed before it fails. gzip data is therefore decompressed again from a
copy of the state up to the fault, and zstd data block by block, as the headers of the blocks describe them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final, NoReturn

import zstandard

from custodes.sources.file_faults import FileFaultReason, FileReadError
from custodes.sources.raw_files import RawBytes

_RAW = 128 << 10
"""Bytes per read of a compressed file."""
_MOST = 1 << 20
"""Maximum number of decompressed bytes per step, because gzip can grow data a thousandfold."""
_GZIP: Final = b"\x1f\x8b"
_GZIP_WINDOW = 31
"""Value of zlib for gzip data with the largest window."""
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_SKIPPABLE: Final = b"\x2a\x4d\x18"
"""Bytes 2 to 4 of a skippable zstd frame; the first is 0x50 to 0x5f."""
_LONGEST_HEADER = 18
_CHECKSUM_FLAG = 4
_RLE, _RESERVED = 1, 3
"""Types of a zstd block."""
_LARGEST_BLOCK = 128 << 10


def decompressed(raw: RawBytes) -> Iterator[bytes]:
    """Yields the content of a file, decompressed according to its first bytes.

    Raises :class:`FileReadError` after everything before a fault was yielded.
    """
    source = _Buffered(raw)
    head = source.peek(4)
    if head[:2] == _GZIP:
        yield from _gunzip(source)
    elif head == _ZSTD or _is_skippable(head):
        yield from _unzstd(source)
    else:
        data = source.available()
        while data:
            yield data
            data = raw.read(_MOST)


class _Buffered:
    """Bytes of a file, to be looked at before they are taken."""

    def __init__(self, raw: RawBytes) -> None:
        self._raw = raw
        self._data = b""
        self._at = 0

    def peek(self, size: int) -> bytes:
        """Returns the next bytes without taking them; fewer at the end of the file."""
        self._fill(size)
        return self._data[self._at : self._at + size]

    def take(self, size: int) -> bytes:
        """Returns exactly ``size`` bytes. Raises :class:`FileReadError` if the file ends before."""
        self._fill(size)
        taken = self._data[self._at : self._at + size]
        self._at += len(taken)
        if len(taken) < size:
            _truncated()
        return taken

    def available(self) -> bytes:
        """Takes and returns what is buffered, or else the next bytes of the file; empty at the end."""
        self._fill(1)
        taken, self._data, self._at = self._data[self._at :], b"", 0
        return taken

    def put_back(self, data: bytes) -> None:
        """Returns bytes that were taken."""
        self._data, self._at = data + self._data[self._at :], 0

    def _fill(self, size: int) -> None:
        while len(self._data) - self._at < size:
            more = self._raw.read(max(_RAW, size))
            if not more:
                return
            self._data, self._at = self._data[self._at :] + more, 0


def _gunzip(source: _Buffered) -> Iterator[bytes]:
    while True:
        head = source.peek(2)
        while head[:1] == b"\0":
            # Tapes and some tools pad the end with zeros.
            source.put_back(source.available().lstrip(b"\0"))
            head = source.peek(2)
        if not head:
            return
        if head != _GZIP:
            _trailing()
        yield from _gzip_member(source)


def _gzip_member(source: _Buffered) -> Iterator[bytes]:
    decoder = zlib.decompressobj(_GZIP_WINDOW)
    while data := source.available():
        while True:
            before = decoder.copy()
            try:
                block = decoder.decompress(data, _MOST)
            except zlib.error as error:
                yield _until_fault(before, data)
                raise FileReadError(FileFaultReason.damaged, str(error)) from error
            if block:
                yield block
            data = decoder.unconsumed_tail
            if decoder.eof:
                source.put_back(decoder.unused_data)
                return
            if not data and len(block) < _MOST:
                break
    _truncated()


def _until_fault(decoder: zlib._Decompress, data: bytes) -> bytes:
    """Returns what can be decompressed of ``data``, which contains a fault."""
    blocks = []
    try:
        for at in range(len(data)):
            blocks.append(decoder.decompress(data[at : at + 1]))
    except zlib.error:
        pass
    return b"".join(blocks)


def _unzstd(source: _Buffered) -> Iterator[bytes]:
    while head := source.peek(4):
        if _is_skippable(head):
            length = int.from_bytes(source.take(8)[4:], "little")
            while length:
                length -= len(source.take(min(length, _RAW)))
        elif head == _ZSTD:
            yield from _zstd_frame(source)
        elif len(head) < len(_ZSTD) and _ZSTD.startswith(head):
            _truncated()
        else:
            _trailing()


def _zstd_frame(source: _Buffered) -> Iterator[bytes]:
    start = source.peek(_LONGEST_HEADER)
    try:
        header = source.take(zstandard.frame_header_size(start))
        decoder = zstandard.ZstdDecompressor().decompressobj()
        decoder.decompress(header)
        is_last = False
        while not is_last:
            description = source.take(3)
            bits = int.from_bytes(description, "little")
            is_last, kind, size = bool(bits & 1), bits >> 1 & 3, bits >> 3
            if kind == _RESERVED or size > _LARGEST_BLOCK:
                raise FileReadError(FileFaultReason.damaged, "not a block of zstd data")
            block = decoder.decompress(description + source.take(1 if kind == _RLE else size))
            if block:
                yield block
        if header[len(_ZSTD)] & _CHECKSUM_FLAG:
            decoder.decompress(source.take(4))
    except zstandard.ZstdError as error:
        if len(start) < _LONGEST_HEADER and start == source.peek(_LONGEST_HEADER):
            _truncated()
        raise FileReadError(FileFaultReason.damaged, str(error)) from error


def _is_skippable(head: bytes) -> bool:
    return head[1:4] == _SKIPPABLE and head[:1].hex().startswith("5")


def _truncated() -> NoReturn:
    raise FileReadError(FileFaultReason.truncated, "the file ends in the middle of its compressed data")


def _trailing() -> NoReturn:
    raise FileReadError(FileFaultReason.damaged, "bytes that are not compressed follow the compressed data")
