"""Whole fetches from kafka-python."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.consumer.subscription_state import SubscriptionState
from kafka.errors import CorruptRecordError
from kafka.protocol.consumer import IsolationLevel
from kafka.record import MemoryRecords
from kafka.record.memory_records import MemoryRecordsBuilder
from kafka.structs import OffsetAndMetadata
from structlog.testing import capture_logs

from custodes.sources import fetches

PARTITION = TopicPartition("access", 0)


def batch(base: int, count: int, magic: int = 2) -> bytes:
    builder = MemoryRecordsBuilder(magic=magic, compression_type=0, batch_size=1 << 20, offset=base)
    for n in range(count):
        assert builder.append(timestamp=1000, key=None, value=b"%d" % (base + n))
    builder.close()
    return bytes(builder.buffer())


class FetchOfOnePartition(fetches.WholeFetch):
    subscriptions = SubscriptionState()


def taken(data: bytes, position: int = 0, leader_epoch: int = -1, **settings: Any) -> tuple[list[Any], Any]:
    drained: list[Any] = []
    FetchOfOnePartition.subscriptions.assign_from_user([PARTITION])
    FetchOfOnePartition.subscriptions.seek(PARTITION, OffsetAndMetadata(position, "", leader_epoch))
    part = FetchOfOnePartition(position, PARTITION, MemoryRecords(data), on_drain=drained.append, **settings)
    return part.take(100), part


def test_an_empty_fetch_keeps_the_leader_epoch_of_the_position() -> None:
    assert taken(b"", position=12, leader_epoch=7)[1].leader_epoch == 7
    assert taken(batch(12, 5), position=12, leader_epoch=7)[1].leader_epoch == 0


def test_a_fetch_is_one_chunk_and_the_position_moves_past_it() -> None:
    data = batch(10, 5) + batch(15, 5)
    (fetch,), part = taken(data + batch(20, 5)[:-1], position=12)
    assert (fetch.offset, fetch.position, fetch.aborted) == (19, 12, None)
    assert fetch.pieces == [fetches.BatchRun((0, len(data)), 20, 0, 1000)]
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


def test_a_fetch_without_a_complete_batch_is_empty() -> None:
    records, part = taken(batch(0, 5)[:-1])
    assert records == []
    assert not part


def test_an_older_message_format_uses_kafka_python_with_one_warning() -> None:
    with capture_logs() as logs:
        for _ in range(2):
            records, _ = taken(batch(0, 3, magic=1) + batch(3, 2))
            assert [(record.offset, record.value) for record in records] == [(n, b"%d" % n) for n in range(5)]
    (entry,) = [entry for entry in logs if entry["event"] == "slow_decoding"]
    assert "message format 1" in entry["reason"]


def test_invalid_batches_raise_kafka_pythons_error() -> None:
    with pytest.raises(CorruptRecordError):
        taken(b"\0" * 200)
