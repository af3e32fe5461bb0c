"""Snapshots: an engine restored from parts saved at different times, replayed from the lowest position, misses nothing
and counts nothing twice."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
from custodes._core import Engine, Outcome, restore
from custodes.findings.store import FindingStore
from streams import LATENESS_S, StreamRecord, described, events, oracle_rule, plan_for, rules, shuffled, stored


@dataclass
class Saved:
    """A snapshot in progress."""

    frame: bytes
    start: dict[int, int]
    parts: list[bytes] = field(default_factory=list)


class SimulatedRun:
    """An engine that reads streams, is saved, lost and restored, with the content of its findings store."""

    def __init__(
        self, chosen: list[dict[str, Any]], streams: list[list[dict[str, Any]]], names: list[str] | None = None
    ) -> None:
        self.chosen = chosen
        names = names or [f"r{at}" for at in range(len(chosen))]
        plan = json.loads(plan_for(*chosen))
        for rule, name in zip(plan["rules"], names, strict=True):
            rule["id"] = name
        self.plan = json.dumps(plan)
        self.rules = [described(rule, name) for rule, name in zip(chosen, names, strict=True)]
        self.streams = [
            [StreamRecord(at, json.dumps(event).encode()) for at, event in enumerate(stream)] for stream in streams
        ]
        self.store = FindingStore("sqlite://")
        self.engine = Engine(self.plan)
        self.next = dict.fromkeys(range(len(streams)), 0)
        self._join()

    def _join(self) -> None:
        for stream in self.next:
            self.engine.join(stream)

    def read(self, stream: int, count: int) -> None:
        records = self.streams[stream][self.next[stream] :][:count]
        self.next[stream] += len(records)
        self.take(self.engine.process_records(records, stream))

    def take(self, outcome: Outcome) -> None:
        assert outcome.late == 0
        self.store.apply(outcome.changes, self.rules)
        self.store.refresh(self.engine.updates(), self.rules)

    def begin_saving(self) -> Saved:
        return Saved(self.engine.save_frame(), dict(self.next))

    def save_part(self, saved: Saved) -> bool:
        """Saves the next part; returns whether it was the last."""
        saved.parts.append(b"".join(self.engine.save_part(len(saved.parts), self.next)))
        return len(saved.parts) == self.engine.parts()

    def crash(self, saved: Saved, threads: int = 1) -> None:
        restored = restore(self.plan, saved.frame, saved.parts, threads)
        dropped = restored.dropped
        assert (dropped.windows, dropped.decisions, dropped.orphans) == ([], [], [])
        self.engine = restored.engine
        self.next = dict(saved.start)
        self._join()

    def finish(self) -> None:
        for stream, records in enumerate(self.streams):
            self.read(stream, len(records))
        self.take(self.engine.finish())

    def findings(self, at: int) -> list[oracle.OracleFinding]:
        return stored(self.store, self.rules[at])


steps = st.lists(st.tuples(st.integers(0, 1), st.integers(1, 12)), max_size=12)


@given(
    st.data(),
    st.lists(st.lists(events, max_size=40), min_size=2, max_size=2),
    st.lists(rules, min_size=1, max_size=4),
    st.lists(steps, min_size=2, max_size=4),
)
@settings(max_examples=400, deadline=None)
def test_nothing_is_lost_and_nothing_counted_twice(
    data: st.DataObject, streams: list[list[dict[str, Any]]], chosen: list[dict[str, Any]], lives: list[list[Any]]
) -> None:
    run = read_over_lives(data, streams, chosen, lives)
    everything = [event for stream in streams for event in stream]
    for at, rule in enumerate(chosen):
        assert run.findings(at) == oracle.findings(everything, oracle_rule(rule))
    run.store.close()


@given(
    st.data(),
    st.lists(st.lists(events, max_size=40), min_size=2, max_size=2),
    rules.filter(lambda rule: rule["group_by"]),
    rules,
    st.lists(steps, min_size=2, max_size=4),
)
@settings(max_examples=400, deadline=None)
def test_openings_are_neither_lost_nor_counted_twice(
    data: st.DataObject,
    streams: list[list[dict[str, Any]]],
    followed: dict[str, Any],
    follower: dict[str, Any],
    lives: list[list[Any]],
) -> None:
    follower |= {"group_by": followed["group_by"][:1], "distinct": None, "resource": None}
    run = read_over_lives(data, streams, [followed, {**follower, "follows": "r0"}], lives)
    inner = oracle.findings([event for stream in streams for event in stream], oracle_rule(followed))
    openings = [{"time": one.opened_at, **dict(zip(followed["group_by"], one.group, strict=True))} for one in inner]
    assert run.findings(0) == inner
    assert run.findings(1) == oracle.findings(openings, oracle_rule(follower))
    run.store.close()


def read_over_lives(
    data: st.DataObject, streams: list[list[dict[str, Any]]], chosen: list[dict[str, Any]], lives: list[list[Any]]
) -> SimulatedRun:
    """In each run a snapshot is started, parts are saved between batches, and more events are read before the end."""
    delay = st.integers(0, LATENESS_S * 1_000_000)
    arriving = []
    for stream in streams:
        delays = data.draw(st.lists(delay, min_size=len(stream), max_size=len(stream)))
        arriving.append(shuffled(stream, delays))
    run = SimulatedRun(chosen, arriving)
    newest: Saved = run.begin_saving()
    while not run.save_part(newest):
        pass
    for life in lives:
        saving = None
        for stream, count in life:
            run.read(stream, count)
            saving = saving or run.begin_saving()
            for _ in range(data.draw(st.integers(0, 4))):
                if run.save_part(saving):
                    newest, saving = saving, None
                    break
        run.crash(newest, data.draw(st.integers(1, 2)))
    run.finish()
    return run


@given(
    st.data(),
    st.lists(events, max_size=60),
    st.lists(rules, min_size=1, max_size=3),
    st.lists(rules, min_size=1, max_size=3),
    st.integers(0, 60),
)
@settings(max_examples=400, deadline=None)
def test_changed_rules_do_not_affect_unchanged_ones(
    data: st.DataObject,
    stream: list[dict[str, Any]],
    before: list[dict[str, Any]],
    added: list[dict[str, Any]],
    cut: int,
) -> None:
    """Removes, keeps and adds rules; some added rules group by the same fields as one that stays."""
    delay = st.integers(0, LATENESS_S * 1_000_000)
    delays = data.draw(st.lists(delay, min_size=len(stream), max_size=len(stream)))
    arriving = shuffled(stream, delays)
    added = [
        {**rule, **{key: before[0][key] for key in data.draw(st.sampled_from([(), ("group_by", "resource")]))}}
        for rule in added
    ]
    stay = before[: data.draw(st.integers(0, len(before)))]
    first = SimulatedRun(before, [arriving])
    first.read(0, cut)
    saved = first.begin_saving()
    while not first.save_part(saved):
        pass
    names = [*(f"r{at}" for at in range(len(stay))), *(f"new{at}" for at in range(len(added)))]
    after = SimulatedRun([*stay, *added], [arriving], names)
    restored = restore(after.plan, saved.frame, saved.parts)
    after.engine, dropped = restored.engine, restored.dropped
    windows, decisions = dropped.windows, dropped.decisions
    after.store, after.next = first.store, dict(saved.start)
    plan = json.loads(after.plan)
    gone = {f"r{at}" for at in range(len(stay), len(before))}
    assert decisions == sorted(decisions)
    assert set(windows) <= set(decisions)
    if windows_stay(plan, len(stay)):
        assert set(decisions) == gone
        assert {orphan.id for orphan in dropped.orphans} <= {
            one.id for one in first.store.page(10_000, open_only=True).findings
        }
        after.finish()
        for at, rule in enumerate(stay):
            assert after.findings(at) == oracle.findings(stream, oracle_rule(rule))
        windows_before = [window(rule) for rule in before]
        for at, rule in enumerate(added, len(stay)):
            if window(rule) in windows_before:
                continue  # It reuses an existing window.
            assert after.findings(at) == oracle.findings(arriving[cut:], oracle_rule(rule))
    first.store.close()


def window(rule: dict[str, Any]) -> tuple[Any, ...]:
    """Returns the key of a rule's window, equal for rules that share it."""
    return tuple(rule[key] for key in ("group_by", "resource", "distinct", "panes", "resolution"))


def windows_stay(plan: dict[str, Any], stay: int) -> bool:
    """Returns whether no added rule is evaluated at the watermark over groups of a kept rule: it needs their names."""
    judging = [rule for rule in plan["rules"][stay:] if "gte" not in rule["holds"]]
    return not any(
        (rule["when"], rule["group_by"]) == (one["when"], one["group_by"])
        for rule in plan["rules"][:stay]
        for one in judging
    )


HEARD_TWICE: tuple[tuple[tuple[int, int | str, str, Any], ...], ...] = (
    (
        (61_000_000, 7, "person", None),
        (1, 7, "person", None),
        (326_123, 7, "person", 2),
        (264_157, "b", "person", []),
        (1_042, "b", "hotel", 1),
    ),
    (
        (38_000_000, "b", "person", 2),
        (90_000_000, 7, "person", 3),
        (40_552, 7, "hotel", None),
        (1_406, "b", "person", "s4"),
        (73_000_000, 7, "person", "s4"),
        (5_011, "a", "person", []),
        (20_000_000, 7, "person", 1),
        (1_238, 7, "hotel", None),
        (78_000_000, "b", "person", None),
        (350, "a", "hotel", "s4"),
        (53_000_000, 7, "hotel", 2),
        (12_802, "b", "person", "s2"),
        (75_000_000, "b", "person", None),
        (19_291, "a", "person", None),
        (499_673, "a", "person", 3),
        (74_000_000, 7, "hotel", None),
    ),
)
"""Two streams: microseconds, actor, resource and subject of each event."""
DELAYS = (
    [238, 73_159, 122_667, 864_717, 63_348],
    [
        3549, 9_999_999, 794, 2593, 288, 120, 240, 250, 3543, 18_829, 4_037_434, 702, 42_457, 167_052, 254_427, 753
    ],
)  # fmt: skip


class Scripted:
    """Draws from a recorded list."""

    def __init__(self) -> None:
        self._drawn = iter([*DELAYS, 0, 1, 3, 0, 2, 4, 4, 2, 3, 1, 1, 3, 4, 4, 3, 2, 1])

    def draw(self, _: object) -> Any:
        return next(self._drawn)


@pytest.mark.parametrize("attempt", range(30))
def test_an_opening_counted_before_a_crash_does_not_count_again(attempt: int) -> None:
    """After a replay the finding first seems to open elsewhere, for some fingerprint keys; the key is random."""
    streams = [
        [
            {"time": 1_700_000_000_000_000 + time, "actor": actor, "resource": resource, "subject": subject}
            for time, actor, resource, subject in stream
        ]
        for stream in HEARD_TWICE
    ]
    common = {"resource": None, "keep_panes": None, "distinct": None}
    inner = {"panes": 27, "group_by": ["actor", "resource"], "resolution": 2, "holds": ("gte", 2), **common}
    outer = {"panes": 30, "group_by": ["actor"], "resolution": 1, "holds": ("gte", 1), **common, "follows": "r0"}
    lives: list[list[Any]] = [
        [[0, 2], [0, 4], [1, 9], [0, 10]],
        [[0, 2], [1, 8], [1, 11], [0, 1], [1, 5]],
        [[1, 5], [1, 4], [0, 11], [1, 4], [0, 12]],
    ]
    run = read_over_lives(Scripted(), streams, [inner, outer], lives)  # type: ignore[arg-type]
    assert [(one.group, one.count) for one in run.findings(1)] == [(("7",), 2), (("a",), 1), (("b",), 1)]
    run.store.close()
