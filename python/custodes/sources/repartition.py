"""The repartition topic, which carries events from workers that read them to workers that count their groups.

A record contains events of one source partition for one share of the groups, the range of offsets that it covers, and
the partition's clock. Records can be repeated, after a crash or by a worker that does not know yet that it has lost a
partition. The records of a partition for a share depend only on the partition's log. The counting worker therefore
accepts each offset once and in order, and needs no transaction.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from kafka import KafkaProducer

from custodes._core import Engine, Outcome, RepartitionBatch
from custodes.config.model import KafkaSourceSettings as KafkaSettings
from custodes.sources.client import client
from custodes.sources.connections import end_producer
from custodes.sources.messages import LogIdentity, StreamGap, StreamPosition

_VERSION, _VERSION_OF_FIRST_LOG = 2, 1
"""Records of a partition's first log are written as before 0.3, so that workers of both versions can run together."""
_HEADER = struct.Struct("<BBqqqH")
"""Version, flags, first offset, offset after the last, clock, length of the partition's name."""
_LOG = struct.Struct("<I")
"""Number of the partition's log, after the name."""
_IDLE, _NEW_LOG = 1, 2
_NO_CLOCK = -(1 << 63)
LARGEST_RECORD = 20 << 20
"""Maximum bytes of a record: one batch, or one event of the maximum size."""
_SEND_MS = 10_000
_PARCEL_BYTES = 512 << 10
"""Maximum bytes of batches that are joined in one record."""


@dataclass(frozen=True)
class SentRange:
    """The events of one partition for one share, for the offsets from ``begin`` to before ``end``."""

    place: str
    """The partition, as ``topic/number``."""
    begin: int
    end: int
    clock: int | None
    """Largest event time on the partition, in microseconds."""
    idle: bool
    """Whether the partition was silent long enough to be ignored by the watermark."""
    log: int
    """Number of the partition's log: see :class:`LogIdentity`."""
    parcel: bytes
    """The events, as encoded by the engine."""
    begins_log: bool = False
    """Whether a log without a number begins with this record, as written before 0.3."""

    def encode(self) -> bytes:
        place = self.place.encode()
        clock = _NO_CLOCK if self.clock is None else self.clock
        version, log = (_VERSION, _LOG.pack(self.log)) if self.log else (_VERSION_OF_FIRST_LOG, b"")
        flags = _IDLE if self.idle else 0
        return _HEADER.pack(version, flags, self.begin, self.end, clock, len(place)) + place + log + self.parcel

    @classmethod
    def decode(cls, value: bytes) -> SentRange:
        """Raises ``ValueError`` if the bytes are not such a record, or have another version."""
        if len(value) < _HEADER.size:
            raise ValueError("too short for a record of the repartition topic")
        version, flags, begin, end, clock, length = _HEADER.unpack_from(value)
        if version not in (_VERSION, _VERSION_OF_FIRST_LOG):
            raise ValueError(f"the record has format {version}, this Custodes reads format {_VERSION}")
        names_end = starts = _HEADER.size + length
        log = 0
        if version == _VERSION:
            if len(value) < names_end + _LOG.size:
                raise ValueError("too short for a record of the repartition topic")
            (log,) = _LOG.unpack_from(value, names_end)
            starts += _LOG.size
        return cls(
            place=value[_HEADER.size : names_end].decode(),
            begin=begin,
            end=end,
            clock=None if clock == _NO_CLOCK else clock,
            idle=bool(flags & _IDLE),
            log=log,
            parcel=value[starts:],
            begins_log=bool(flags & _NEW_LOG),
        )


class DeliveryFailedError(Exception):
    """The broker refused a record permanently. All later records must be sent again, from a snapshot."""


class RepartitionTopic:
    """The producer of the topic. Records are in transit after :meth:`send` and stored after :meth:`flush`."""

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._producer: Any = None
        self._failure: BaseException | None = None

    def send(self, share: int, sent: SentRange) -> None:
        """Sends a record; the records of a share are stored in the order they are sent.

        Raises ``KafkaError`` for a record that can be sent later, and :class:`DeliveryFailedError`.
        """
        self._check()
        if self._producer is None:
            self._producer = client(
                KafkaProducer,
                self._settings,
                client_id="custodes-repartition",
                acks="all",
                # Records are never reordered and never dropped: the receiver would treat a missing record as already
                # counted.
                enable_idempotence=True,
                delivery_timeout_ms=(1 << 31) - 1,
                max_block_ms=_SEND_MS,
                max_request_size=LARGEST_RECORD,
                compression_type="zstd",
            )
        future = self._producer.send(self._topic, value=sent.encode(), partition=share)
        future.add_errback(self._fail)

    def _fail(self, failure: BaseException) -> None:
        self._failure = failure

    def _check(self) -> None:
        if self._failure is not None:
            raise DeliveryFailedError(f"a record of the repartition topic was refused: {self._failure}")

    def flush(self) -> None:
        """Raises :class:`DeliveryFailedError` unless everything sent is stored."""
        if self._producer is not None:
            self._producer.flush()
        self._check()

    def close(self) -> None:
        if self._producer is not None:
            end_producer(self._producer)


class RepartitionOutbox:
    """The unsent events of one source partition. Batches are joined to records that together cover every offset."""

    def __init__(self, place: str, shares: int, position: int, log: int = 0) -> None:
        """``position`` is the first offset to cover, ``log`` the number of its log."""
        self.clock: int | None = None
        self.idle = False
        self._place = place
        self._parcels: list[list[tuple[int, bytes]]] = [[] for _ in range(shares)]
        self._told: list[tuple[int, int | None, bool] | None]
        self._from = [position] * shares
        self._log = log
        self._of_earlier_log: list[tuple[int, SentRange]] = []
        """Unsent records of the log before the current one, by share."""
        self.repeat()

    def repeat(self) -> None:
        """Makes the next :meth:`send` report the state of the partition to all shares, even if it is unchanged."""
        self._told = [None] * len(self._parcels)

    def begin_log(self, log: int, expected: int, position: int) -> None:
        """Goes on at ``position`` of another log. Events of the earlier log, up to ``expected``, are still sent."""
        if log == self._log:
            return
        for share, parcels in enumerate(self._parcels):
            if parcels:
                self._of_earlier_log += [(share, sent) for sent in self._records(share, expected)]
        self._parcels = [[] for _ in self._parcels]
        self._from = [position] * len(self._parcels)
        self._log = log
        self.clock = None
        self.repeat()

    def add(self, batches: Iterable[RepartitionBatch]) -> None:
        """Adds the batches of an outcome of the engine."""
        for batch in batches:
            self._parcels[batch.partition].append((batch.first, batch.events))

    def send(self, position: int, to: Callable[[int, SentRange], None], *, everybody: bool) -> None:
        """Sends the events of the offsets before ``position``.

        With ``everybody``, shares without events receive a record, too, if the state of the partition has changed.
        """
        while self._of_earlier_log:
            to(*self._of_earlier_log[0])
            del self._of_earlier_log[0]
        state = (position, self.clock, self.idle)
        for share, parcels in enumerate(self._parcels):
            if parcels or (everybody and self._told[share] != state):
                for sent in self._records(share, position):
                    to(share, sent)
                self._parcels[share] = []
                self._from[share] = position
                self._told[share] = state

    def _records(self, share: int, position: int) -> Iterator[SentRange]:
        """Yields joined batches; only the last one contains the current state of the partition."""
        joined: list[tuple[int, list[bytes]]] = [(self._from[share], [])]
        size = 0
        for first, parcel in self._parcels[share]:
            if size and size + len(parcel) > _PARCEL_BYTES:
                joined.append((first, []))
                size = 0
            joined[-1][1].append(parcel)
            size += len(parcel)
        ends = [first for first, _ in joined[1:]] + [position]
        for at, ((begin, parcels), end) in enumerate(zip(joined, ends, strict=True)):
            is_last = at == len(joined) - 1
            clock, idle = (self.clock, self.idle) if is_last else (None, False)
            yield SentRange(self._place, begin, end, clock, idle, self._log, b"".join(parcels))


class RepartitionInbox:
    """The received offsets of every source partition for one share, for de-duplication."""

    def __init__(
        self,
        had: Iterable[StreamPosition],
        idle_after: float,
        missed: Callable[[StreamGap, dict[str, str | int]], None],
        pace: Callable[[], float],
    ) -> None:
        """``had`` are the positions of an earlier process; ``missed`` is called for offsets that were never sent.

        ``idle_after`` is in seconds of ``pace``.
        """
        had = list(had)
        self.upto = {place.name: place.position for place in had}
        """Next offset to receive, by partition."""
        self._streams = {place.name: place.stream for place in had}
        self._logs = {place.name: place.log.number for place in had}
        self._idle_after, self._missed, self._pace = idle_after, missed, pace
        self._expected: set[str] = set()
        self._idle: set[str] = set()
        self._woken_at = float("-inf")

    def places(self) -> list[StreamPosition]:
        """Returns the position in each partition."""
        return [
            StreamPosition(
                stream, name, self.upto.get(name, 0), ours=False, log=LogIdentity(number=self._logs.get(name, 0))
            )
            for name, stream in self._streams.items()
        ]

    def expect(self, partitions: Iterable[str], engine: Engine) -> None:
        """Joins all source partitions, so that no other one advances the watermark before they have sent something."""
        for name in partitions:
            if name not in self._expected:
                self._expected.add(name)
                engine.join(self._stream(name))

    def _stream(self, name: str) -> int:
        """Returns the stream number of a source partition; 0 is the share's own."""
        return self._streams.setdefault(name, 1 + len(self._streams))

    def take(self, sent: SentRange, engine: Engine) -> Iterator[Outcome]:
        """Counts the new events of a record. Raises ``ValueError`` for a malformed record."""
        stream, upto = self._stream(sent.place), self.upto.get(sent.place)
        log = self._logs.setdefault(sent.place, sent.log)
        if sent.log < log:
            # Sent by a worker that did not know of the new log yet; the gap before that log covers its events.
            return
        if sent.log > log or sent.begins_log:
            self._logs[sent.place] = sent.log
            engine.reset_stream(stream)
            upto = None
        if upto is not None and sent.end < upto:
            return
        if upto is not None and sent.begin > upto:
            topic, _, number = sent.place.rpartition("/")
            self._missed(StreamGap(stream, upto, sent.begin), {"topic": topic, "partition": int(number)})
        self.upto[sent.place] = sent.end
        if sent.end > (upto or 0):
            self._wake_all(engine)
        if sent.parcel:
            yield engine.process_repartition_batch(sent.parcel, upto or 0, stream)
        if sent.clock is not None:
            yield engine.observe(stream, sent.clock)
        if not sent.idle:
            self._idle.discard(sent.place)
        elif self._pace() - self._woken_at > self._idle_after:
            self._idle.add(sent.place)
            yield engine.set_idle(stream)

    def _wake_all(self, engine: Engine) -> None:
        """After a pause of all partitions, none may run ahead of the others, whose events are still in transit."""
        if len(self._idle) == len(self._streams):
            for stream in self._streams.values():
                engine.join(stream)
            self._idle.clear()
            self._woken_at = self._pace()
