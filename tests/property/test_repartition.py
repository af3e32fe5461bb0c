"""Repartitioning: engines that forward events and engines that count shares give the result of a single engine, with
any number of duplicates and restarts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
from custodes._core import Engine
from custodes.findings.store import FindingStore
from streams import LATENESS_S, StreamRecord, described, events, oracle_rule, plan_for, rules, shuffled, stored

KEY = "000102030405060708090a0b0c0d0e0f"


@dataclass(frozen=True)
class SentBatch:
    """Events that one source's engine sent to one share, for ``[begin, end)``, and the source's position."""

    source: int
    begin: int
    end: int
    parcel: bytes
    clock: int | None


def plans(chosen: list[dict[str, Any]], shares: int) -> tuple[str, list[str]]:
    """Returns the plans of the engines that forward and of those that count."""
    plan = json.loads(plan_for(*chosen)) | {"fingerprint_key": KEY}
    handing_on = plan | {"rules": [], "repartition": {"rules": plan["rules"], "partitions": shares}}
    counting = [plan | {"share": {"partition": share, "of": shares}} for share in range(shares)]
    return json.dumps(handing_on), [json.dumps(one) for one in counting]


def sent(engine: Engine, source: int, records: list[StreamRecord], shares: int) -> list[SentBatch]:
    """Returns the result of a batch, by share."""
    outcome = engine.process_records(records, source)
    begin, end = records[0].offset, records[-1].offset + 1
    by_share = [
        b"".join(batch.events for batch in outcome.repartition_batches if batch.partition == share)
        for share in range(shares)
    ]
    return [SentBatch(source, begin, end, parcel, outcome.clock) for parcel in by_share]


@given(
    st.data(),
    st.lists(st.lists(events, max_size=40), min_size=2, max_size=3),
    st.lists(rules, min_size=1, max_size=3),
    st.integers(1, 3),
)
@settings(max_examples=300, deadline=None)
def test_shares_equal_the_oracle(
    data: st.DataObject, streams: list[list[dict[str, Any]]], chosen: list[dict[str, Any]], shares: int
) -> None:
    delay = st.integers(0, LATENESS_S * 1_000_000)
    handing_on, counting = plans(chosen, shares)
    topic: list[list[list[SentBatch]]] = [[] for _ in range(shares)]
    for source, stream in enumerate(streams):
        delays = data.draw(st.lists(delay, min_size=len(stream), max_size=len(stream)))
        arriving = shuffled(sorted(stream, key=lambda event: event["time"]), delays)
        records = [StreamRecord(at, json.dumps(event).encode()) for at, event in enumerate(arriving)]
        lives = data.draw(st.integers(1, 3))
        into: list[list[SentBatch]] = [[] for _ in range(shares)]
        for life in range(lives):
            # Each run starts at or before the previous one's last position, and the last one reads everything.
            reached = min((log[-1].end if log else 0) for log in into)
            at = data.draw(st.integers(0, reached))
            until = len(records) if life == lives - 1 else data.draw(st.integers(at, len(records)))
            engine = Engine(handing_on)
            while at < until:
                size = data.draw(st.integers(1, 12))
                batch = sent(engine, source, records[at : min(at + size, until)], shares)
                into = [[*had, one] for had, one in zip(into, batch, strict=True)]
                at = min(at + size, until)
        for logs, sends in zip(topic, into, strict=True):
            logs.append(sends)
    told = [described(rule, f"r{at}") for at, rule in enumerate(chosen)]
    store = FindingStore("sqlite://")
    for plan, logs in zip(counting, topic, strict=True):
        engine = Engine(plan)
        upto = dict.fromkeys(range(len(streams)), 0)
        for source in upto:
            engine.join(source)
        waiting = [list(reversed(sends)) for sends in logs]
        while any(waiting):
            sends = data.draw(st.sampled_from([one for one in waiting if one]))
            one = sends.pop()
            assert one.begin <= upto[one.source], "nothing was left out"
            outcomes = [engine.process_repartition_batch(one.parcel, upto[one.source], one.source)]
            upto[one.source] = max(upto[one.source], one.end)
            if one.clock is not None:
                outcomes.append(engine.observe(one.source, one.clock))
            for outcome in outcomes:
                assert (outcome.rejects, outcome.late) == ([], 0)
                store.apply(outcome.changes, told)
            store.refresh(engine.updates(), told)
        store.apply(engine.finish().changes, told)
    every = [event for stream in streams for event in stream]
    for rule, shown in zip(chosen, told, strict=True):
        assert stored(store, shown) == oracle.findings(every, oracle_rule(rule))
    store.close()
