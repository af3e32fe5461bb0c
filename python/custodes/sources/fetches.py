"""Whole fetches out of kafka-python: the bytes a partition's fetch brought, for the engine to take apart.

kafka-python decodes records one by one in Python, which is six times slower than reading them off the socket.
Here it goes on doing all the rest: groups, positions, commits, rebalances, fetch sessions. Three places are used
that are not its public interface, so its version is pinned and :func:`take_whole` says when they are gone:

* ``Fetcher.PartitionRecords``, looked up on the fetcher, unpacks a fetch. Ours gives one :class:`Fetch` for all of
  it, or leaves it to kafka-python where a batch is in a message format before v2.
* ``Fetcher.send_fetches`` asks for the next fetch while the last is counted (:func:`ask_ahead`).
* A transport receives 4 KiB at a time, and its parser copies. :class:`FetchClient` (``kafka_client=`` is public) avoids
  both (:mod:`.receiving`).
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Any

from kafka.consumer.fetcher import Fetcher
from kafka.errors import KafkaTimeoutError, SaslAuthenticationFailedError
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.protocol.consumer import IsolationLevel

from custodes._core import fetched_pieces
from custodes.log_events import SlowDecoding, SlowDecodingEverywhere
from custodes.sources.receiving import receive_from

PIECE_BYTES = 1 << 20
"""A fetch is cut into pieces of so many bytes or more, so that partitions can be read side by side."""


@dataclass(frozen=True)
class BatchRun:
    """A run of a fetch's batches."""

    span: tuple[int, int]
    """Where it lies in the fetch's bytes: from, to."""
    next_offset: int
    latest_ms: int
    """The latest timestamp of a record, as its producer or the broker gave it; -1 for none."""


@dataclass(frozen=True)
class Fetch:
    """Record batches of one partition, as fetched."""

    offset: int
    """Of the last record: what kafka-python compares positions with."""
    position: int
    """The first record asked for; batches may begin earlier."""
    data: bytes
    aborted: list[tuple[int, int]] | None
    """For ``read_committed``: aborted transactions as (producer id, first offset)."""
    pieces: list[BatchRun]


class WholeFetch(Fetcher.PartitionRecords):  # type: ignore[misc]
    """Hands a partition's fetch over in one piece, and moves the position past it."""

    one_by_one: Container[str] = ()
    """Topics whose records are not the engine's to take apart."""

    def _unpack_records(self, tp: Any, records: Any, *deserializers: Any) -> Iterator[Any]:
        if tp.topic in self.one_by_one:
            yield from super()._unpack_records(tp, records, *deserializers)
            return
        data = bytes(records._buffer)
        aborted = self._aborted()
        try:
            # Where a transaction was aborted, what to pass over follows from all batches before it.
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
                BatchRun((begin, piece.end), piece.next_offset, piece.latest_ms)
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
    """Makes ``consumer.poll`` give a :class:`Fetch` in place of each partition's list of records.

    Not of the topics in ``one_by_one``: their records come as they do otherwise.
    """
    fetcher: Any = getattr(consumer, "_fetcher", None)
    if getattr(fetcher, "PartitionRecords", None) is Fetcher.PartitionRecords:
        fetcher.PartitionRecords = type("WholeFetch", (WholeFetch,), {"one_by_one": one_by_one})
    else:
        SlowDecodingEverywhere().emit()


def ask_ahead(consumer: Any) -> None:
    """Sends the next fetches now, so that they are answered while the last are counted.

    ``poll`` asks before it waits, but not again once its wait has brought something.
    """
    consumer._fetcher.send_fetches()


def hears_its_coordinator(consumer: Any) -> bool:
    """Whether the broker that keeps the group answers: heartbeats tell within seconds. No public method says so."""
    return not consumer._coordinator.coordinator_unknown()


def ask_for_a_fresh_assignment(consumer: Any) -> None:
    """Joins the group again at the next poll.

    A static member that comes back is given what it had, without a look at the topics; partitions that were added
    while it was away, or topics made, would be nobody's until something changes again.
    """
    consumer._coordinator.request_rejoin()


def go_on_joining(consumer: Any) -> None:
    """Has the next poll wait for a join that is under way.

    One that was begun because partitions were added is taken for done as soon as they are dealt out. If a poll ends
    before the broker has said so too, nobody asks for its answer any more (kafka-python 3.0.12, see docs/sources.md),
    and the partitions that were given up for it are never had back.
    """
    if consumer._coordinator.rejoining:
        consumer._coordinator.request_rejoin()


class FetchClient(KafkaNetClient):  # type: ignore[misc]
    """kafka-python's client, which receives in large pieces and says why it finds no broker."""

    def __init__(self, net: Any = None, manager: Any = None, **configs: Any) -> None:
        net = NetworkSelector(**configs) if net is None else net
        super().__init__(net, _Manager(net, **configs) if manager is None else manager, **configs)


class _Manager(KafkaConnectionManager):  # type: ignore[misc]
    def __init__(self, net: Any, **configs: Any) -> None:
        self._refused: Exception | None = None
        super().__init__(net, **configs)

    def bootstrap(self, timeout_ms: int | None = None, refresh: bool = True) -> None:
        """Where brokers refused, raises that, rather than that none answered in time."""
        try:
            super().bootstrap(timeout_ms, refresh)
        except KafkaTimeoutError as error:
            raise self._refused or error from error

    def get_connection(self, node_id: Any, **how: Any) -> Any:
        connection = super().get_connection(node_id, **how)
        connection.init_future.add_errback(self._note)
        return connection

    def _note(self, error: Exception) -> None:
        if isinstance(error, SaslAuthenticationFailedError):
            self._refused = error

    async def _build_transport(self, node: Any, timeout_at: Any = None) -> Any:
        transport = await super()._build_transport(node, timeout_at=timeout_at)
        receive_from(transport)
        return transport
