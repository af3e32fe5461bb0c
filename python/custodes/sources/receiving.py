"""Receiving from a broker with one copy.

kafka-python 3.0.12 receives 4 KiB at a time, and copies what a fetch brought five times on its way to a consumer: that
takes half as long as to count it. Here a response is received where it is read from, in memory that is used again for
the next, and only the records themselves are copied out of it.

Its parser is exchanged for :class:`Parser` when a connection first receives; that is none of its public interface, so
its version is pinned.
"""

from __future__ import annotations

import ssl
import struct
from typing import Any

from kafka.errors import KafkaConnectionError
from kafka.protocol.frame import KafkaBytes
from kafka.protocol.parser import KafkaProtocol

RECEIVE_BYTES = 1 << 20
"""Room for a receive at least; what the kernel has buffered comes in one call."""
_LARGE = 1 << 16
"""Bytes of a response from which on it is read in place. Fetches are, and what is decoded of them are copies."""
_SIZE = struct.Struct(">i")


class Frame:
    """A large response, read where it lies: what of ``KafkaBytes``, kafka-python's own, its parser asks of one."""

    def __init__(self, view: memoryview) -> None:
        self._view = view.toreadonly()
        self._at = 0

    def read(self, count: int | None = None) -> bytes | memoryview:
        """The next ``count`` bytes; all that are left are shown, not copied."""
        part = self._view[self._at :][:count]
        self._at += len(part)
        return part if count is None else bytes(part)

    def seek(self, at: int) -> None:
        self._at = at


def _frame(view: memoryview) -> Frame | KafkaBytes:
    """A response to be read."""
    if len(view) >= _LARGE:
        return Frame(view)
    frame = KafkaBytes(len(view))
    frame.write(view)
    frame.seek(0)
    return frame


class Parser(KafkaProtocol):  # type: ignore[misc]
    """kafka-python's parser, which has the memory that its responses are received in."""

    def __init__(self, **configs: Any) -> None:
        super().__init__(**configs)
        self._memory = memoryview(bytearray(RECEIVE_BYTES))
        self._begin = self._end = 0

    @classmethod
    def in_place_of(cls, parser: KafkaProtocol) -> Parser:
        """Goes on for a parser that has received nothing yet."""
        new = cls()
        new.__dict__.update(vars(parser))
        return new

    def room(self) -> memoryview:
        """Where to receive: as much as the response at hand still needs, and more."""
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
        """So much of the room is filled."""
        self._end += count

    def last(self, count: int) -> memoryview:
        """The last of what was received."""
        return self._memory[self._end - count : self._end]

    def receive_bytes(self, data: Any) -> list[Any]:
        """Takes responses apart that are whole; ``data`` is the last of what was received, and lies here already."""
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
        """Bytes of the response at hand, as it says; ``None`` while it has not."""
        if self._end - self._begin < _SIZE.size:
            return None
        (size,) = _SIZE.unpack_from(self._memory, self._begin)
        return _SIZE.size + int(size)


def receive_from(transport: Any) -> None:
    """Has a transport of kafka-python receive so."""
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
    """What the kernel holds, as far as there is room: while something is left, the selector wakes again."""
    try:
        count = sock.recv_into(parser.room())
    except (BlockingIOError, InterruptedError):
        return parser.last(0), None
    except OSError as error:
        return parser.last(0), KafkaConnectionError(error)
    parser.fill(count)
    return parser.last(count), None if count else KafkaConnectionError("socket disconnected")


def receive_tls(sock: Any, parser: Parser) -> tuple[memoryview, Exception | None]:
    """As :func:`receive`, until TLS has nothing left: what it holds back wakes no selector."""
    total = 0
    while True:
        try:
            count = sock.recv_into(parser.room())
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return parser.last(total), None
        except OSError as error:
            return parser.last(total), KafkaConnectionError(error)
        if not count:
            return parser.last(total), KafkaConnectionError("socket disconnected")
        parser.fill(count)
        total += count
