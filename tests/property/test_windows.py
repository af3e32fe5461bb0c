"""The engine's windows compared with the oracle, over random streams in and out of order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
from custodes._core import Engine
from finding_reader import FindingReader, in_batches, lines
from streams import LATENESS_S, START, events, oracle_rule, plan_for, rules, shuffled


def engine_for(*rules: dict[str, Any], threads: int = 1) -> Engine:
    return Engine(plan_for(*rules), threads)


def run(rule: dict[str, Any], batches: list[list[dict[str, Any]]]) -> list[oracle.OracleFinding]:
    engine = engine_for(rule)
    ledger = FindingReader()
    for batch in batches:
        outcome = engine.process_lines(lines(batch))
        assert outcome.events == len(batch)
        assert outcome.late == 0
        ledger.take(outcome)
    ledger.take(engine.finish())
    return ledger.closed(rule["resolution"] * 1_000_000)


@given(st.lists(events, max_size=60), rules, st.lists(st.integers(0, 60), max_size=4))
@settings(max_examples=400, deadline=None)
def test_sorted_streams_give_the_oracles_findings(
    stream: list[dict[str, Any]], rule: dict[str, Any], cuts: list[int]
) -> None:
    stream.sort(key=lambda event: event["time"])
    assert run(rule, in_batches(stream, cuts)) == oracle.findings(stream, oracle_rule(rule))


@given(st.data(), st.lists(events, max_size=60), rules, st.lists(st.integers(0, 60), max_size=4))
@settings(max_examples=1000, deadline=None)
def test_any_order_within_the_lateness_gives_the_same_findings(
    data: st.DataObject, stream: list[dict[str, Any]], rule: dict[str, Any], cuts: list[int]
) -> None:
    delay = st.integers(0, LATENESS_S * 1_000_000)
    delays = data.draw(st.lists(delay, min_size=len(stream), max_size=len(stream)))
    arriving = shuffled(stream, delays)
    assert run(rule, in_batches(arriving, cuts)) == oracle.findings(stream, oracle_rule(rule))


@given(
    st.data(),
    st.lists(events, max_size=60),
    st.lists(rules, min_size=2, max_size=5),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=3),
)
@settings(max_examples=400, deadline=None)
def test_rules_that_share_a_stream_or_a_window_do_not_disturb_each_other(
    data: st.DataObject, stream: list[dict[str, Any]], chosen: list[dict[str, Any]], alike: list[tuple[int, int]]
) -> None:
    """Rules that share windows but differ in their conditions."""
    for one, other in alike:
        if max(one, other) < len(chosen):
            same = (
                ("group_by", "resource") if one < other else ("group_by", "resource", "distinct", "panes", "resolution")
            )
            chosen[other] = {**chosen[other], **{key: chosen[one][key] for key in same}}
    delay = st.integers(0, LATENESS_S * 1_000_000)
    delays = data.draw(st.lists(delay, min_size=len(stream), max_size=len(stream)))
    engine, ledger = engine_for(*chosen, threads=data.draw(st.integers(1, 3))), FindingReader()
    for batch in in_batches(shuffled(stream, delays), [20, 40]):
        ledger.take(engine.process_lines(lines(batch)))
    ledger.take(engine.finish())
    for at, rule in enumerate(chosen):
        assert ledger.closed(rule["resolution"] * 1_000_000, at) == oracle.findings(stream, oracle_rule(rule))


def test_old_panes_of_a_value_are_evaluated_before_it_is_evicted() -> None:
    """Regression, found by a longer run: the watermark passes the second event, but not yet its pane."""
    rule = {
        "group_by": ["subject"], "distinct": "subject", "panes": 11, "resolution": 7,
        "keep_panes": None, "holds": ("lt", 2), "resource": None,
    }  # fmt: skip

    def event(micros: int, subject: Any) -> dict[str, Any]:
        return {"time": START + micros, "actor": "a", "subject": subject, "resource": "person"}

    stream = [event(0, "s1"), event(71_000_000, ["s1", "s2"]), event(81_000_001, None)]
    assert run(rule, [stream[:2], stream[2:]]) == oracle.findings(stream, oracle_rule(rule))


def test_a_value_is_not_evicted_before_its_old_pane_is_evaluated() -> None:
    """Regression, found by simulation: streams far apart, one of them with arrivals that the watermark has passed, and
    two groups in one shard, as one pair of groups in four."""
    rule = {
        "group_by": ["subject"], "distinct": "subject", "panes": 19, "resolution": 2,
        "keep_panes": 5, "holds": ("eq", 2), "resource": None,
    }  # fmt: skip
    arriving = [(1, 63, "s3"), (0, 34, "s9"), (2, 1, "s4"), (2, 49, "s2"), (0, 87, "s8")]
    for _ in range(40):
        engine, ledger = engine_for(rule), FindingReader()
        engine.join(2)
        for stream, second, subject in arriving:
            event = {"time": START + second * 1_000_000, "actor": "a", "subject": subject, "resource": "person"}
            ledger.take(engine.process_lines(lines([event]), stream=stream))
        ledger.take(engine.finish())
        assert ledger.closed(2_000_000) == []


@given(st.lists(events, min_size=1, max_size=40), rules)
@settings(max_examples=200, deadline=None)
def test_a_finding_opens_at_the_deciding_event(stream: list[dict[str, Any]], rule: dict[str, Any]) -> None:
    """With one event per call, a finding is reported in the call that contains its opening event."""
    stream.sort(key=lambda event: event["time"])
    rule = {**rule, "holds": ("gte", rule["holds"][1])}
    engine = engine_for(rule)
    for event in stream:
        for change in engine.process_lines(lines([event])).changes:
            if change.kind == "opened":
                assert change.opened_at == event["time"]


@given(st.lists(events, min_size=1, max_size=60), rules)
@settings(max_examples=200, deadline=None)
def test_memory_follows_live_windows(stream: list[dict[str, Any]], rule: dict[str, Any]) -> None:
    """Inactive groups are dropped once the watermark has passed their windows."""
    stream.sort(key=lambda event: event["time"])
    engine = engine_for(rule)
    engine.process_lines(lines(stream))
    later = START + 10_000_000_000
    for hour in range(4):
        event = {"time": later + hour * 3_600_000_000, "actor": "z", "subject": "z", "resource": "person"}
        engine.process_lines(lines([event]))
    assert engine.stats().rules[0].groups <= 2


@pytest.mark.parametrize("distinct", [None, "subject"])
def test_very_late_events_count_in_live_panes(distinct: str | None) -> None:
    rule = {
        "group_by": ["actor"], "distinct": distinct, "panes": 60, "resolution": 1,
        "keep_panes": None, "holds": ("gte", 3), "resource": None,
    }  # fmt: skip
    engine = engine_for(rule)

    def event(second: int, subject: str) -> dict[str, Any]:
        return {"time": START + second * 1_000_000, "actor": "a", "subject": subject, "resource": "person"}

    outcome = engine.process_lines(lines([event(0, "s1"), event(40, "s2"), event(10, "s3")]))
    assert (outcome.events, outcome.late) == (3, 1)
    assert [change.peak for change in outcome.changes] == [3]
    gone = engine.process_lines(lines([event(200, "s1"), event(100, "s4")]))
    assert gone.late == 1
    assert all(change.peak == 3 for change in [*gone.changes, *engine.updates()]), "its pane had left every window"
