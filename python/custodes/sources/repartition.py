"""The repartition topic: events on their way from the workers that read them to those that count their groups.

A record has events of one source partition for one share of the groups, and says which of the partition's offsets it
speaks for and how far the partition's clock is. Records can come again, after a crash or from a worker that does not
know yet that it has lost a partition. What a partition has for a share follows from its log alone, so whoever counts
takes each offset once and in order, and no transaction is needed for it.
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
from custodes.sources.messages import StreamGap, StreamPosition

_VERSION = 1
_HEADER = struct.Struct("<BBqqqH")
"""Version, flags, first offset, offset after the last, clock, length of the partition's name."""
_IDLE, _ANEW = 1, 2
_NO_CLOCK = -(1 << 63)
LARGEST_RECORD = 4 << 20
"""Bytes of a record: a parcel, or one event that is as large as an event can be."""
_SEND_MS = 10_000
_PARCEL_BYTES = 512 << 10
"""Parcels that come together are sent together, up to so many bytes."""


@dataclass(frozen=True)
class SentRange:
    """What one partition has for one share, of its offsets from ``begin`` to before ``end``."""

    place: str
    """The partition, as ``topic/number``."""
    begin: int
    end: int
    clock: int | None
    """The largest event time seen on the partition, in microseconds."""
    idle: bool
    """Whether the partition has been silent for long enough not to be waited for."""
    anew: bool
    """Whether the partition's log is another than the one before, and begins here."""
    parcel: bytes
    """The events, as the engine hands them on."""

    def encode(self) -> bytes:
        place = self.place.encode()
        flags = (_IDLE if self.idle else 0) | (_ANEW if self.anew else 0)
        clock = _NO_CLOCK if self.clock is None else self.clock
        return _HEADER.pack(_VERSION, flags, self.begin, self.end, clock, len(place)) + place + self.parcel

    @classmethod
    def decode(cls, value: bytes) -> SentRange:
        """Raises ``ValueError`` for what is no such record, or of another version."""
        if len(value) < _HEADER.size:
            raise ValueError("it is too short for a record of the repartition topic")
        version, flags, begin, end, clock, length = _HEADER.unpack_from(value)
        if version != _VERSION:
            raise ValueError(f"it has format {version}, this Custodes reads format {_VERSION}")
        names_end = _HEADER.size + length
        return cls(
            place=value[_HEADER.size : names_end].decode(),
            begin=begin,
            end=end,
            clock=None if clock == _NO_CLOCK else clock,
            idle=bool(flags & _IDLE),
            anew=bool(flags & _ANEW),
            parcel=value[names_end:],
        )


class DeliveryFailedError(Exception):
    """The broker refused for good what was sent: all that came after it must be sent again, from a snapshot."""


class RepartitionTopic:
    """The sending end. What is sent is on its way; after :meth:`flush` it has arrived."""

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._producer: Any = None
        self._failure: BaseException | None = None

    def send(self, share: int, sent: SentRange) -> None:
        """Records for a share arrive in the order they are sent.

        Raises ``KafkaError`` for one that cannot be sent now and may be later, and :class:`DeliveryFailedError`.
        """
        self._check()
        if self._producer is None:
            self._producer = client(
                KafkaProducer,
                self._settings,
                client_id="custodes-repartition",
                acks="all",
                # Never out of order and never given up: what is left out would be taken for what came before.
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
            raise DeliveryFailedError(f"what was handed on was refused: {self._failure}")

    def flush(self) -> None:
        """Raises :class:`DeliveryFailedError` if not all that was sent arrived."""
        if self._producer is not None:
            self._producer.flush()
        self._check()

    def close(self) -> None:
        if self._producer is not None:
            self._producer.close(timeout=1)


class RepartitionOutbox:
    """What one source partition has to send: joined to records, none too large, which speak for every offset."""

    def __init__(self, place: str, shares: int, position: int) -> None:
        """``position`` is the first offset that is spoken for."""
        self.clock: int | None = None
        self.idle = False
        self._place = place
        self._parcels: list[list[tuple[int, bytes]]] = [[] for _ in range(shares)]
        self._told: list[tuple[int, int | None, bool] | None]
        self._from = [position] * shares
        self._anew = False
        self.repeat()

    def repeat(self) -> None:
        """Has all shares told how things stand, also where that is nothing new."""
        self._told = [None] * len(self._parcels)

    def begin_anew(self, position: int) -> None:
        """The partition's log is another now."""
        self._from = [position] * len(self._parcels)
        self._anew = True
        self.clock = None
        self.repeat()

    def add(self, batches: Iterable[RepartitionBatch]) -> None:
        """Adds the batches of an outcome of the engine."""
        for batch in batches:
            self._parcels[batch.partition].append((batch.first, batch.events))

    def send(self, position: int, to: Callable[[int, SentRange], None], *, everybody: bool) -> None:
        """Sends what there is of the offsets before ``position``.

        With ``everybody`` shares it has no events for are told as well, if things stand otherwise than they know.
        """
        state = (position, self.clock, self.idle)
        for share, parcels in enumerate(self._parcels):
            if parcels or self._anew or (everybody and self._told[share] != state):
                for sent in self._records(share, position):
                    to(share, sent)
                self._parcels[share] = []
                self._from[share] = position
                self._told[share] = state
        self._anew = False

    def _records(self, share: int, position: int) -> Iterator[SentRange]:
        """Parcels joined; only the last speaks of the partition as it stands."""
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
            yield SentRange(self._place, begin, end, clock, idle, self._anew and at == 0, b"".join(parcels))


class RepartitionInbox:
    """What a share has had of every source partition, and what of a record is new to it."""

    def __init__(
        self,
        had: Iterable[StreamPosition],
        idle_after: float,
        missed: Callable[[StreamGap, dict[str, str | int]], None],
        pace: Callable[[], float],
    ) -> None:
        """``had`` is where an earlier process had come to; ``missed`` hears of offsets that were never handed on.

        ``idle_after`` is in seconds, which ``pace`` counts.
        """
        had = list(had)
        self.upto = {place.name: place.position for place in had}
        """Of each partition the first offset not had yet."""
        self._streams = {place.name: place.stream for place in had}
        self._idle_after, self._missed, self._pace = idle_after, missed, pace
        self._expected: set[str] = set()
        self._idle: set[str] = set()
        self._woken_at = float("-inf")

    def places(self) -> list[StreamPosition]:
        """How far it has come with each partition."""
        return [
            StreamPosition(stream, name, self.upto.get(name, 0), ours=False) for name, stream in self._streams.items()
        ]

    def expect(self, partitions: Iterable[str], engine: Engine) -> None:
        """Every source partition may have something for a share: none is to be run ahead of before it is heard."""
        for name in partitions:
            if name not in self._expected:
                self._expected.add(name)
                engine.join(self._stream(name))

    def _stream(self, name: str) -> int:
        """What a source partition is to the share's engine; 0 is the share's own."""
        return self._streams.setdefault(name, 1 + len(self._streams))

    def take(self, sent: SentRange, engine: Engine) -> Iterator[Outcome]:
        """Has counted what is new of a record. Raises ``ValueError`` for one that cannot be read."""
        stream, upto = self._stream(sent.place), self.upto.get(sent.place)
        if sent.anew:
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
        """After a lull of all partitions none may run ahead of the others, whose events are on their way."""
        if len(self._idle) == len(self._streams):
            for stream in self._streams.values():
                engine.join(stream)
            self._idle.clear()
            self._woken_at = self._pace()
