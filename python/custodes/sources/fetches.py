"""Whole fetches from kafka-python: the engine decodes the bytes of a partition's fetch.

kafka-python decodes records one by one in Python, which takes six times as long as reading them from the socket. All
other work remains with kafka-python: groups, positions, commits, rebalances, fetch sessions. This module uses
places that are not public, so the version is pinned, and :func:`take_whole` logs a warning if the first is missing:

* ``Fetcher.PartitionRecords``, an attribute of the fetcher, unpacks a fetch. :class:`WholeFetch` returns one
  :class:`Fetch` for all of it, or lets kafka-python decode it if a batch has a message format before v2.
* ``Fetcher.send_fetches`` sends the next fetch while the engine counts the last one (:func:`ask_ahead`).
* A transport receives 4 KiB at a time, and its parser copies. :class:`FetchClient` avoids both (:mod:`.receiving`);
  its parameter ``kafka_client=`` is public.
* The coordinator's state, the ids of topics, and the leader epoch of a position have no public methods.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Any

from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.protocol.consumer import IsolationLevel
from kafka.structs import OffsetAndMetadata

from custodes._core import fetched_pieces
from custodes.log_events import SlowDecoding, SlowDecodingEverywhere

PIECE_BYTES = 1 << 20
"""Minimum bytes of a piece of a fetch. Pieces allow partitions to be read in parallel."""


@dataclass(frozen=True)
class BatchRun:
    """A run of record batches of a fetch."""

    span: tuple[int, int]
    """Start and end in the bytes of the fetch."""
    next_offset: int
    leader_epoch: int
    """Leader epoch of the last batch."""
    latest_ms: int
    """Largest timestamp of a record, as set by its producer or the broker; -1 without one."""


@dataclass(frozen=True)
class Fetch:
    """Record batches of one partition, as fetched."""

    offset: int
    """Offset of the last record, which kafka-python compares with positions."""
    position: int
    """First requested offset; batches can begin earlier."""
    data: bytes
    aborted: list[tuple[int, int]] | None
    """Aborted transactions as (producer id, first offset), for ``read_committed``."""
    pieces: list[BatchRun]


class WholeFetch(Fetcher.PartitionRecords):  # type: ignore[misc]
    """Returns the fetch of a partition whole, and advances the position past it."""

    one_by_one: Container[str] = ()
    """Topics whose records kafka-python decodes."""
    subscriptions: Any
    """The positions of the consumer."""

    def __init__(self, fetch_offset: int, tp: Any, *fetched: Any, **settings: Any) -> None:
        super().__init__(fetch_offset, tp, *fetched, **settings)
        # After an empty fetch, kafka-python 3.0.12 forgets the leader epoch of its position, without which a
        # truncated log is not detected.
        position = self.subscriptions.assignment[tp].position
        if position is not None and position.offset == fetch_offset:
            self.leader_epoch = position.leader_epoch

    def _unpack_records(self, tp: Any, records: Any, *deserializers: Any) -> Iterator[Any]:
        if tp.topic in self.one_by_one:
            yield from super()._unpack_records(tp, records, *deserializers)
            return
        data = bytes(records._buffer)
        aborted = self._aborted()
        try:
            # After an aborted transaction, the records to skip depend on all earlier batches.
            found = fetched_pieces(data, len(data) if aborted else PIECE_BYTES)
        except ValueError as error:
            _warn_once(str(tp.topic), str(error))
            yield from super()._unpack_records(tp, records, *deserializers)
            return
        if found:
            self.next_fetch_offset, self.leader_epoch = found[-1].next_offset, found[-1].leader_epoch
            self.records_read = sum(piece.records for piece in found)
            self.bytes_read = len(data)
            begins = [0, *(piece.end for piece in found)]
            pieces = [
                BatchRun((begin, piece.end), piece.next_offset, piece.leader_epoch, piece.latest_ms)
                for begin, piece in zip(begins, found, strict=False)
            ]
            yield Fetch(self.next_fetch_offset - 1, self.fetch_offset, data, aborted, pieces)
        self.drain()

    def _aborted(self) -> list[tuple[int, int]] | None:
        if self.isolation_level != IsolationLevel.READ_COMMITTED:
            return None
        return [(transaction.producer_id, transaction.first_offset) for transaction in self.aborted_transactions]


_warned_of: set[str] = set()


def _warn_once(topic: str, problem: str) -> None:
    if topic not in _warned_of:
        _warned_of.add(topic)
        SlowDecoding(topic=topic, reason=problem).emit()


def take_whole(consumer: Any, one_by_one: Container[str] = ()) -> None:
    """Makes ``consumer.poll`` return a :class:`Fetch` instead of the list of records of a partition.

    Topics in ``one_by_one`` are excluded: kafka-python decodes their records.
    """
    fetcher: Any = getattr(consumer, "_fetcher", None)
    if getattr(fetcher, "PartitionRecords", None) is Fetcher.PartitionRecords:
        settings = {"one_by_one": one_by_one, "subscriptions": consumer._subscription}
        fetcher.PartitionRecords = type("WholeFetch", (WholeFetch,), settings)
    else:
        SlowDecodingEverywhere().emit()


def ask_ahead(consumer: Any) -> None:
    """Sends the next fetches now, so that the broker answers while the engine counts the last ones.

    ``poll`` sends fetches before it waits, but not after it has received data.
    """
    consumer._fetcher.send_fetches()


def hears_its_coordinator(consumer: Any) -> bool:
    """Returns whether the broker that coordinates the group answers; heartbeats detect a loss within seconds.

    kafka-python has no public method for this.
    """
    return not consumer._coordinator.coordinator_unknown()


def ask_for_a_fresh_assignment(consumer: Any) -> None:
    """Joins the group again at the next poll.

    A static member that returns gets its previous partitions, without a check of the topics. Partitions or topics that
    were added during its absence would stay unassigned until the next rebalance.
    """
    consumer._coordinator.request_rejoin()


def go_on_joining(consumer: Any) -> None:
    """Makes the next poll wait for a join that is in progress.

    kafka-python regards a join after new partitions as complete as soon as the partitions are distributed. If a poll
    ends before the broker has confirmed it, kafka-python does not wait for the confirmation any more (3.0.12, see
    docs/sources.md), and the partitions that were revoked for the join are never assigned again.
    """
    if consumer._coordinator.rejoining:
        consumer._coordinator.request_rejoin()


def topic_id_of(consumer: Any, topic: str) -> str | None:
    """Returns the broker's id of a topic, by the latest metadata; ``None`` without metadata, or from a broker that is
    older than topic ids.

    kafka-python keeps the ids and has no public method for them.
    """
    topic_id = consumer._cluster.topic_id(topic)
    return None if topic_id is None or not topic_id.int else str(topic_id)


def knows_topic(consumer: Any, topic: str) -> bool:
    """Returns whether a broker has described the topic. A static member that returns is assigned partitions before."""
    return consumer._cluster.partitions_for_topic(topic) is not None


def seek_in_log(consumer: Any, partition: TopicPartition, offset: int, leader_epoch: int) -> None:
    """Continues at an offset, and lets kafka-python ask the broker first whether its log still has all before it.

    If the log was truncated, kafka-python goes back to the point of truncation (KIP-320). Its public ``seek`` takes no
    leader epoch.
    """
    consumer.seek(partition, offset)
    if leader_epoch >= 0:
        consumer._subscription.seek(partition, OffsetAndMetadata(offset, "", leader_epoch))
