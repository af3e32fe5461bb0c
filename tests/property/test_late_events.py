"""Events behind the watermark, compared with a second, slow implementation: each counts in every window that still
covers it, whatever the batches."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
from custodes._core import Engine
from finding_reader import FindingReader, in_batches, lines
from streams import LATENESS_S, events, oracle_rule, plan_for, rules, shuffled

DELAYS = st.integers(0, 60_000_000)


@given(st.data(), st.lists(events, max_size=60), rules, st.lists(st.integers(0, 60), max_size=4), st.integers(1, 3))
@settings(max_examples=600, deadline=None)
def test_late_events_count_in_every_window_that_still_covers_them(
    data: st.DataObject, stream: list[dict[str, Any]], rule: dict[str, Any], cuts: list[int], threads: int
) -> None:
    rule = {**rule, "holds": ("gte", data.draw(st.integers(1, 6)))}
    delays = data.draw(st.lists(DELAYS, min_size=len(stream), max_size=len(stream)))
    arriving = shuffled(stream, delays)
    engine, ledger = Engine(plan_for(rule), threads), FindingReader()
    for batch in in_batches(arriving, cuts):
        outcome = engine.process_lines(lines(batch))
        assert outcome.events == len(batch)
        ledger.take(outcome)
    ledger.take(engine.finish())
    width = rule["resolution"] * 1_000_000
    found = [(one.group, one.opening_pane, one.closed_at // width - 1, one.peak) for one in ledger.closed(width)]
    assert found == oracle.runs_with_late_events(arriving, oracle_rule(rule), LATENESS_S)


@given(st.data(), st.lists(events, max_size=60))
@settings(max_examples=200, deadline=None)
def test_every_late_event_is_reported(data: st.DataObject, stream: list[dict[str, Any]]) -> None:
    delays = data.draw(st.lists(DELAYS, min_size=len(stream), max_size=len(stream)))
    arriving = shuffled(stream, delays)
    newest, late = 0, 0
    for event in arriving:
        late += event["time"] < newest - LATENESS_S * 1_000_000
        newest = max(newest, event["time"])
    outcome = Engine(plan_for()).process_lines(lines(arriving))
    assert (outcome.events, outcome.late) == (len(arriving), late)
