"""What is taken out of kafka-python: fetches, and receives large enough for them."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
from kafka import TopicPartition
from kafka.errors import CorruptRecordError, KafkaConnectionError
from kafka.protocol.consumer import IsolationLevel
from kafka.record import MemoryRecords
from kafka.record.memory_records import MemoryRecordsBuilder
from structlog.testing import capture_logs

from custodes.sources import fetches

PARTITION = TopicPartition("access", 0)


def batch(base: int, count: int, magic: int = 2) -> bytes:
    builder = MemoryRecordsBuilder(magic=magic, compression_type=0, batch_size=1 << 20, offset=base)
    for n in range(count):
        assert builder.append(timestamp=1000, key=None, value=b"%d" % (base + n))
    builder.close()
    return bytes(builder.buffer())


def taken(data: bytes, position: int = 0, **settings: Any) -> tuple[list[Any], Any]:
    drained: list[Any] = []
    part = fetches._WholeFetch(position, PARTITION, MemoryRecords(data), on_drain=drained.append, **settings)
    return part.take(100), part


def test_a_fetch_is_one_piece_and_the_position_moves_past_it() -> None:
    data = batch(10, 5) + batch(15, 5)
    (fetch,), part = taken(data + batch(20, 5)[:-1], position=12)
    assert (fetch.offset, fetch.position, fetch.aborted) == (19, 12, None)
    assert fetch.pieces == [fetches.Piece((0, len(data)), 20, 1000)]
    assert fetch.data.startswith(data)
    assert (part.next_fetch_offset, part.records_read, bool(part)) == (20, 10, False)


def test_a_fetch_is_cut_between_batches_unless_a_transaction_was_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetches, "PIECE_BYTES", 1)
    data = batch(10, 5) + batch(15, 5)
    half = len(data) // 2
    (fetch,), _ = taken(data)
    assert [(piece.span, piece.next_offset) for piece in fetch.pieces] == [((0, half), 15), ((half, len(data)), 20)]
    aborted = [SimpleNamespace(producer_id=1, first_offset=10)]
    (fetch,), _ = taken(data, isolation_level=IsolationLevel.READ_COMMITTED, aborted_transactions=aborted)
    assert [piece.span for piece in fetch.pieces] == [(0, len(data))]


def test_a_fetch_without_a_whole_batch_is_nothing() -> None:
    records, part = taken(batch(0, 5)[:-1])
    assert records == []
    assert not part


def test_an_older_message_format_is_left_to_kafka_python_and_said_once() -> None:
    with capture_logs() as logs:
        for _ in range(2):
            records, _ = taken(batch(0, 3, magic=1) + batch(3, 2))
            assert [(record.offset, record.value) for record in records] == [(n, b"%d" % n) for n in range(5)]
    (entry,) = [entry for entry in logs if "one by one" in entry["event"]]
    assert "message format 1" in entry["because"]


def test_bytes_that_are_no_batches_are_kafka_pythons_own_error() -> None:
    with pytest.raises(CorruptRecordError):
        taken(b"\0" * 200)


@pytest.fixture
def plain() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_a_receive_takes_what_is_there(plain: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = plain

    def received() -> tuple[bytes, Exception | None]:
        part, error = fetches._receive(ours, memoryview(bytearray(10)))
        return bytes(part), error

    assert received() == (b"", None)
    theirs.sendall(b"0123456789abc")
    assert received() == (b"0123456789", None)
    assert received() == (b"abc", None)
    theirs.close()
    part, error = received()
    assert (part, type(error)) == (b"", KafkaConnectionError)


def test_a_receive_over_tls_leaves_nothing_behind(tmp_path: Path) -> None:
    """What TLS has unpacked and holds back would wake no selector."""
    authority = trustme.CA()
    server_side, client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("localhost").configure_cert(server_side)
    authority.configure_trust(client_side)
    ours, theirs = socket.socketpair()
    sent = bytes(range(256)) * 1000

    def serve() -> None:
        with server_side.wrap_socket(theirs, server_side=True) as connection:
            connection.sendall(sent)
            connection.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    with client_side.wrap_socket(ours, server_hostname="localhost") as connection:
        connection.setblocking(False)
        room = memoryview(bytearray(1000))
        received = b""
        while len(received) < len(sent):
            part, error = fetches._receive_tls(connection, room)
            assert error is None
            assert connection.pending() == 0
            received += part
        connection.setblocking(True)
        connection.send(b"x")
    thread.join()
    assert received == sent
