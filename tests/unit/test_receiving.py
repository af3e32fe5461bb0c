"""Responses received in place: in any pieces, the result equals that of kafka-python's parser."""

from __future__ import annotations

import random
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.errors import InvalidReceiveError, KafkaConnectionError
from kafka.protocol.parser import KafkaProtocol

from custodes.sources import receiving
from custodes.sources.receiving import Parser

LARGEST = 3 << 20


def read(_: KafkaProtocol, frame: Any) -> bytes:
    """A response as the parser reads it: a small part first, then the rest."""
    begins = frame.read(3)
    frame.seek(0)
    whole = frame.read()
    assert bytes(whole[:3]) == begins
    return bytes(whole)


class Whole(Parser):
    _process_response = read


class Theirs(KafkaProtocol):  # type: ignore[misc]
    _process_response = read


def sent(sizes: Sequence[int]) -> tuple[bytes, list[bytes]]:
    frames = [random.Random(size).randbytes(size) for size in sizes]
    return b"".join(struct.pack(">i", len(frame)) + frame for frame in frames), frames


def arrive(parser: Parser, data: bytes) -> memoryview:
    """Simulates a socket that fills the given buffer."""
    count = min(len(data), len(parser.room()))
    parser.room()[:count] = data[:count]
    parser.fill(count)
    return parser.last(count)


sizes = st.integers(0, 40) | st.sampled_from([65_535, 65_536, 1 << 20, (1 << 20) + 7, LARGEST])


@settings(max_examples=60, deadline=None)
@given(st.lists(sizes, max_size=5), st.lists(st.integers(1, 9) | st.integers(1, 2 << 20), min_size=1, max_size=6))
def test_any_chunking_gives_the_same_responses(sizes: list[int], pieces: list[int]) -> None:
    data, frames = sent(sizes)
    ours, theirs = Whole(receive_message_max_bytes=LARGEST), Theirs(receive_message_max_bytes=LARGEST)
    found: list[bytes] = []
    expected: list[bytes] = []
    turn = 0
    while data:
        # Small pieces only at first: a large response would have too many.
        piece = arrive(ours, data[: pieces[turn % len(pieces)] if turn < 50 else len(data)])
        expected += theirs.receive_bytes(piece)
        data = data[len(piece) :]
        found += ours.receive_bytes(piece)
        turn += 1
        assert found == expected
    assert found == frames


def test_buffers_are_reused_and_no_larger_than_the_data() -> None:
    parser = Whole(receive_message_max_bytes=LARGEST)
    data, frames = sent([LARGEST - 1] * 4)
    found: list[bytes] = []
    while data:
        piece = arrive(parser, data[: 1 << 20])
        data = data[len(piece) :]
        found += parser.receive_bytes(piece)
        assert len(parser.room()) <= LARGEST + 2 * receiving.RECEIVE_BYTES
    assert found == frames


@pytest.mark.parametrize("size", [-1, -4, -(1 << 31), LARGEST + 1])
def test_an_invalid_size_is_an_error(size: int) -> None:
    parser = Whole(receive_message_max_bytes=LARGEST)
    piece = arrive(parser, struct.pack(">i", size) + b"x")
    assert len(parser.room()) <= LARGEST + 2 * receiving.RECEIVE_BYTES
    with pytest.raises(InvalidReceiveError, match=str(size)):
        parser.receive_bytes(piece)


def test_a_parser_continues_another_ones_requests() -> None:
    theirs = KafkaProtocol(client_id="custodes", ident="node=1", receive_message_max_bytes=LARGEST)
    theirs.in_flight_requests.append("a request")
    ours = Parser.in_place_of(theirs)
    assert ours.in_flight_requests is theirs.in_flight_requests
    assert vars(theirs).items() <= vars(ours).items()
    with pytest.raises(InvalidReceiveError):
        ours.receive_bytes(arrive(ours, struct.pack(">i", LARGEST + 1)))


class Transport:
    """The receiving part of kafka-python's transport."""

    _sock_recv: Callable[[], tuple[memoryview, Exception | None]]

    def __init__(self, sock: socket.socket, connection: Any) -> None:
        self._sock = sock
        self.connection = connection

    def get_protocol(self) -> Any:
        return self.connection

    def receive(self) -> tuple[memoryview, Exception | None]:
        return self._sock_recv()


def test_a_transport_receives_for_its_connection_until_it_is_closed(plain: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = plain
    connection = SimpleNamespace(parser=KafkaProtocol(client_id="custodes"))
    transport = Transport(ours, connection)
    receiving.receive_from(transport)
    theirs.sendall(b"\0\0\0\x01")
    part, error = transport.receive()
    assert (bytes(part), error) == (b"\0\0\0\x01", None)
    assert isinstance(connection.parser, Parser)
    transport.connection = None
    part, error = transport.receive()
    assert (bytes(part), type(error)) == (b"", KafkaConnectionError)


@pytest.fixture
def plain() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_a_receive_reads_available_data(plain: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = plain
    parser = Whole()

    def received() -> tuple[bytes, Exception | None]:
        part, error = receiving.receive(ours, parser)
        return bytes(part), error

    assert received() == (b"", None)
    theirs.sendall(b"\0\0\0\x06abc")
    assert received() == (b"\0\0\0\x06abc", None)
    theirs.sendall(b"def\0")
    assert received() == (b"def\0", None)
    assert parser.receive_bytes(b"def\0") == [b"abcdef"]
    theirs.close()
    part, error = received()
    assert (part, type(error)) == (b"", KafkaConnectionError)


def test_a_receive_over_tls_drains_the_buffer() -> None:
    """Data that TLS has decrypted and buffered does not wake a selector."""
    authority = trustme.CA()
    server_side, client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("localhost").configure_cert(server_side)
    authority.configure_trust(client_side)
    ours, theirs = socket.socketpair()
    data, frames = sent([100_000, 7, 2 << 20, 0])

    def serve() -> None:
        with server_side.wrap_socket(theirs, server_side=True) as connection:
            connection.sendall(data)
            connection.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    parser = Whole()
    with client_side.wrap_socket(ours, server_hostname="localhost") as connection:
        connection.setblocking(False)
        received = b""
        found: list[bytes] = []
        while len(received) < len(data):
            part, error = receiving.receive_tls(connection, parser)
            assert error is None
            assert connection.pending() == 0
            received += part
            found += parser.receive_bytes(part)
        connection.setblocking(True)
        connection.send(b"x")
    thread.join()
    assert received == data
    assert found == frames
