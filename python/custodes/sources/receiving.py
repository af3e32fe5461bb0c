"""Receiving from a broker with one copy.

kafka-python 3.0.12 receives 4 KiB at a time, and copies a fetch five times on its way to the consumer, which takes half
as long as counting it. This module receives a response into memory that is reused for the next response and parses it
in place; only the records are copied out of it.

A connection's parser is replaced by :class:`Parser` at the first receive. This is not part of the public interface of
kafka-python, so its version is pinned.
"""

from __future__ import annotations

import ssl
import struct
from typing import Any

from kafka.errors import KafkaConnectionError
from kafka.protocol.frame import KafkaBytes
from kafka.protocol.parser import KafkaProtocol

RECEIVE_BYTES = 1 << 20
"""Minimum room for a receive, in bytes; one call returns everything that the kernel has buffered."""
_LARGE = 1 << 16
"""Bytes from which a response is read in place. Fetches are larger, and their decoded parts are copies."""
_SIZE = struct.Struct(">i")


class Frame:
    """A large response that is read in place, with the methods of ``KafkaBytes`` that kafka-python's parser uses."""

    def __init__(self, view: memoryview) -> None:
        self._view = view.toreadonly()
        self._at = 0

    def read(self, count: int | None = None) -> bytes | memoryview:
        """Returns the next ``count`` bytes; the rest of the response is returned as a view, without a copy."""
        part = self._view[self._at :][:count]
        self._at += len(part)
        return part if count is None else bytes(part)

    def seek(self, at: int) -> None:
        self._at = at


def _frame(view: memoryview) -> Frame | KafkaBytes:
    """Returns a response for reading."""
    if len(view) >= _LARGE:
        return Frame(view)
    frame = KafkaBytes(len(view))
    frame.write(view)
    frame.seek(0)
    return frame


class Parser(KafkaProtocol):  # type: ignore[misc]
    """kafka-python's parser, with its own receive buffer."""

    def __init__(self, **configs: Any) -> None:
        super().__init__(**configs)
        self._memory = memoryview(bytearray(RECEIVE_BYTES))
        self._begin = self._end = 0

    @classmethod
    def in_place_of(cls, parser: KafkaProtocol) -> Parser:
        """Returns a parser that replaces one which has not received anything yet."""
        new = cls()
        new.__dict__.update(vars(parser))
        return new

    def room(self) -> memoryview:
        """Returns the room for the next receive: at least the rest of the current response."""
        kept = self._end - self._begin
        wanted = max(min(self._wanted() or 0, self._max_frame_size), kept + RECEIVE_BYTES)
        if self._begin + wanted > len(self._memory):
            old = self._memory[self._begin : self._end]
            if wanted > len(self._memory):
                self._memory = memoryview(bytearray(wanted))
            self._memory[:kept] = old
            self._begin, self._end = 0, kept
        return self._memory[self._end :]

    def fill(self, count: int) -> None:
        """Advances the end of the received data by ``count`` bytes."""
        self._end += count

    def last(self, count: int) -> memoryview:
        """Returns the last received bytes."""
        return self._memory[self._end - count : self._end]

    def receive_bytes(self, data: Any) -> list[Any]:
        """Parses complete responses; ``data`` is the last received data, which is in the buffer already."""
        responses = []
        while (wanted := self._wanted()) is not None:
            self._validate_frame_size(wanted - _SIZE.size)
            if self._end - self._begin < wanted:
                break
            frame = self._memory[self._begin + _SIZE.size : self._begin + wanted]
            self._begin += wanted
            responses.append(self._process_response(_frame(frame)))
        if self._begin == self._end:
            self._begin = self._end = 0
        return responses

    def _wanted(self) -> int | None:
        """Returns the size of the current response in bytes; ``None`` until its size field is received."""
        if self._end - self._begin < _SIZE.size:
            return None
        (size,) = _SIZE.unpack_from(self._memory, self._begin)
        return _SIZE.size + int(size)


def receive_from(transport: Any) -> None:
    """Makes a transport of kafka-python receive into the buffer of :class:`Parser`."""
    sock = transport._sock
    receive_some = receive_tls if isinstance(sock, ssl.SSLSocket) else receive

    def sock_recv() -> tuple[memoryview, Exception | None]:
        connection = transport.get_protocol()
        if connection is None:
            return memoryview(b""), KafkaConnectionError("the connection was closed")
        if not isinstance(connection.parser, Parser):
            connection.parser = Parser.in_place_of(connection.parser)
        return receive_some(sock, connection.parser)

    transport._sock_recv = sock_recv


def receive(sock: Any, parser: Parser) -> tuple[memoryview, Exception | None]:
    """Receives the kernel's buffered data up to the available room; the selector wakes again if some is left."""
    try:
        count = sock.recv_into(parser.room())
    except (BlockingIOError, InterruptedError):
        return parser.last(0), None
    except OSError as error:
        return parser.last(0), KafkaConnectionError(error)
    parser.fill(count)
    return parser.last(count), None if count else KafkaConnectionError("socket disconnected")


def receive_tls(sock: Any, parser: Parser) -> tuple[memoryview, Exception | None]:
    """Receives like :func:`receive`, until TLS has no data left: data buffered by TLS does not wake the selector."""
    total = 0
    while True:
        try:
            count = sock.recv_into(parser.room())
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return parser.last(total), None
        except OSError as error:
            return parser.last(total), KafkaConnectionError(error)
        if not count:
            # The end is received again. kafka-python would otherwise drop the last answer, which says why it ends.
            return parser.last(total), None if total else KafkaConnectionError("socket disconnected")
        parser.fill(count)
        total += count
