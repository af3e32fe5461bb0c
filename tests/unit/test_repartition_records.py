"""Repartition records: they cover every offset, in order, and decode to the same events."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custodes._core import RepartitionBatch
from custodes.sources.repartition import RepartitionOutbox, SentRange

sents = st.builds(
    SentRange,
    place=st.text(max_size=20),
    begin=st.integers(0, 1 << 60),
    end=st.integers(0, 1 << 60),
    clock=st.none() | st.integers(-(1 << 60), 1 << 60),
    idle=st.booleans(),
    log=st.sampled_from([0, 0, 1, 7, (1 << 32) - 1]),
    parcel=st.binary(max_size=50),
)


@given(sents)
def test_a_record_round_trips(sent: SentRange) -> None:
    assert SentRange.decode(sent.encode()) == sent


@given(st.binary(max_size=60))
def test_random_bytes_are_refused_or_decoded(value: bytes) -> None:
    try:
        SentRange.decode(value)
    except ValueError:
        return


def test_an_unsupported_format_is_named() -> None:
    with pytest.raises(ValueError, match="format 9"):
        SentRange.decode(b"\x09" + SentRange("access/1", 0, 1, None, False, 0, b"").encode()[1:])


rounds = st.lists(
    st.tuples(
        st.integers(0, 5),  # offsets the round brings
        st.lists(st.tuples(st.integers(0, 2), st.sampled_from([1, 300_000])), max_size=6),  # records: share, size
        st.booleans(),
    ),
    max_size=20,
)


@given(rounds)
def test_every_offset_is_covered_once_and_in_order(brought: list[tuple[int, list[tuple[int, int]], bool]]) -> None:
    shares, start = 3, 7
    outbox = RepartitionOutbox("access/0", shares, start)
    sent: defaultdict[int, list[SentRange]] = defaultdict(list)
    given_: defaultdict[int, bytes] = defaultdict(bytes)
    position = start
    for offsets, parcels, everybody in brought:
        before, position = position, position + offsets
        if offsets:
            firsts = sorted(before + at % offsets for at in range(len(parcels)))
            lined_up = [
                RepartitionBatch(share, first, bytes([first % 256]) * size)
                for (share, size), first in zip(parcels, firsts, strict=True)
            ]
            outbox.add(lined_up)
            for batch in lined_up:
                given_[batch.partition] += batch.events
        outbox.clock = position
        outbox.send(position, lambda share, one: sent[share].append(one), everybody=everybody)
    outbox.clock = position
    outbox.send(position, lambda share, one: sent[share].append(one), everybody=True)
    for share in range(shares):
        begins = [one.begin for one in sent[share]]
        ends = [one.end for one in sent[share]]
        assert begins == [start, *ends[:-1]], "one joins the other"
        assert ends[-1] == position
        assert b"".join(one.parcel for one in sent[share]) == given_[share]
        assert sent[share][-1].clock == position
        assert all(one.clock in (None, one.end) for one in sent[share])
        assert all(len(one.parcel) <= (512 << 10) or len(set(one.parcel)) == 1 for one in sent[share])


def test_shares_are_informed_of_new_offsets_only() -> None:
    outbox = RepartitionOutbox("access/0", 2, 0)
    sent: list[tuple[int, SentRange]] = []

    def send(position: int) -> int:
        before = len(sent)
        outbox.send(position, lambda share, one: sent.append((share, one)), everybody=True)
        return len(sent) - before

    assert send(0) == 2, "that there is nothing yet is news"
    assert send(0) == 0
    outbox.idle = True
    assert send(0) == 2
    outbox.repeat()
    assert send(0) == 2
    assert sent[-1][1].idle
    outbox.begin_log(1, expected=0, position=40)
    assert send(41) == 2
    assert (sent[-1][1].begin, sent[-1][1].end, sent[-1][1].log) == (40, 41, 1)


def test_events_of_an_earlier_log_are_sent_before_those_of_the_new_one() -> None:
    outbox = RepartitionOutbox("access/0", 2, 0)
    sent: list[tuple[int, SentRange]] = []
    outbox.add([RepartitionBatch(1, 3, b"old")])
    outbox.begin_log(1, expected=9, position=4)
    outbox.begin_log(1, expected=9, position=4)
    outbox.add([RepartitionBatch(1, 5, b"new")])
    outbox.send(6, lambda share, one: sent.append((share, one)), everybody=True)
    assert [(share, one.log, one.begin, one.end, one.parcel) for share, one in sent] == [
        (1, 0, 0, 9, b"old"), (0, 1, 4, 6, b""), (1, 1, 4, 6, b"new"),
    ]  # fmt: skip


def test_records_of_a_first_log_are_written_for_earlier_versions() -> None:
    assert SentRange("access/1", 0, 1, None, False, 0, b"x").encode()[0] == 1
    assert SentRange("access/1", 0, 1, None, False, 1, b"x").encode()[0] == 2
