"""Baselines: thresholds relative to the expected value, compared with a second, slow implementation."""

from __future__ import annotations

import json
import random
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import takewhile
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from custodes._core import Engine
from custodes.config import FaultsError
from custodes.config.mapping import load_mapping
from custodes.findings import Finding
from custodes.rules import Rule, build_plan, load_rules
from custodes.rules.baseline import Baseline, BaselineOf
from faults import faults_of
from restarts import findings_over_restarts

START = 1_767_571_200
"""2026-01-05T00:00:00Z, a Monday."""
DAY = 86_400
LATENESS = timedelta(hours=3)
RULE = """\
title: More than usual
correlation:
  type: value_count
  rules: [looks]
  group-by: [actor]
  timespan: 1d
  condition: {field: subject, gte: 3}
custodes:
  resolution: 1h
  keep_open: 6h
  baseline: {of: both, over: 6d, factor: 1.5, least_days: 2, least_peers: 2}
---
title: Looks
name: looks
logsource: {product: custodes}
detection: {selection: {action: read}, condition: selection}
"""


@dataclass(frozen=True)
class OracleEvent:
    """An event in the oracle's terms; the time is in local seconds."""

    time: int
    actor: str
    peer: str
    values: tuple[str, ...]


class Oracle:
    """Computes the findings of a rule with a baseline, directly from the definition."""

    def __init__(self, events: list[OracleEvent], rule: Rule) -> None:
        assert rule.baseline is not None
        self.baseline = rule.baseline
        self.floor = rule.holds["gte"]
        self.distinct = rule.distinct is not None
        self.width = int(rule.resolution.total_seconds())
        self.span = rule.timespan // rule.resolution
        self.keep = rule.keep_open // rule.resolution
        self.own_lag = ceil(rule.timespan / timedelta(days=1)) + 1
        self.by_actor: dict[str, list[OracleEvent]] = defaultdict(list)
        for event in sorted(events, key=lambda event: event.time):
            self.by_actor[event.actor].append(event)
        self.peaks = {actor: self._peaks(actor) for actor in self.by_actor}
        ends = {event.time // DAY for event in events}
        self.peer_on = {
            (actor, day): max((e.time, e.peer) for e in seen if e.time // DAY <= day)[1]
            for actor, seen in self.by_actor.items()
            for day in ends
            if any(e.time // DAY <= day for e in seen)
        }

    @property
    def stranger_factor(self) -> float:
        return self.baseline.stranger_factor or 2 * self.baseline.factor

    def count(self, events: list[OracleEvent]) -> int:
        return len({value for e in events for value in e.values}) if self.distinct else len(events)

    def window(self, actor: str, pane: int) -> list[OracleEvent]:
        return [e for e in self.by_actor[actor] if pane - self.span < e.time // self.width <= pane]

    def panes(self, actor: str) -> list[int]:
        return sorted({event.time // self.width for event in self.by_actor[actor]})

    def _peaks(self, actor: str) -> dict[int, int]:
        peaks: dict[int, int] = defaultdict(int)
        for pane in self.panes(actor):
            day = pane * self.width // DAY
            peaks[day] = max(peaks[day], self.count(self.window(actor, pane)))
        return {day: peak for day, peak in peaks.items() if peak}

    def level(self, peer: str, day: int) -> tuple[float, float] | None:
        """Returns the expected value among peers on a completed day for which windows could be full: the count, and
        the number of days of a window on which they worked."""
        if day < min(seen[0].time // DAY for seen in self.by_actor.values()) + self.own_lag - 1:
            return None
        who = [actor for actor, peaks in self.peaks.items() if day in peaks and self.peer_on[actor, day] == peer]
        if len(who) < self.baseline.least_peers:
            return None
        return median(self.peaks[one][day] for one in who), median(self.worked(one, day) for one in who)

    def alike(self, one: int, other: int) -> bool:
        return self.own_lag > 7 or weekend(one) == weekend(other)

    def worked(self, actor: str, day: int) -> int:
        """Returns the number of working days in the window that ends with a day."""
        return sum(day - self.own_lag + 1 < one <= day for one in self.peaks[actor])

    def at_this_desk_since(self, actor: str, day: int) -> int:
        """Returns the first day with events of the actor among its current peers."""
        days = sorted({e.time // DAY for e in self.by_actor[actor] if e.time // DAY <= day}, reverse=True)
        same = takewhile(lambda one: self.peer_on[actor, one] == self.peer_on[actor, day], days)
        return min(same)

    def near(self, peer: str, day: int) -> float | None:
        known = {d: level[0] for d in range(day - 16, day - 1) if (level := self.level(peer, d)) is not None}
        alike = {d: level for d, level in known.items() if self.alike(d, day)}
        return max((alike or known).values(), default=None)

    def own(self, measured: dict[int, tuple[float, float]], actor: str, day: int) -> tuple[float, float] | None:
        """Returns the expected value, and the increase of the factor because it was read from few windows."""
        full = self.at_this_desk_since(actor, day) + self.own_lag - 1
        if self.own_lag > 2 and day - self.own_lag + 1 < full + self.own_lag - 1:
            return None
        first = max(day - self.own_lag - self.baseline.over.days + 1, full)
        windows = {d: one for d, one in measured.items() if first <= d <= day - self.own_lag}
        shares = {d: self.worked(actor, d) / beside for d, (_, beside) in windows.items()}
        most = max(shares.values(), default=1)
        known = {d: one * (most / shares[d]) for d, (one, _) in windows.items() if shares[d] * 2 >= most}
        alike = [one for d, one in known.items() if self.alike(d, day)]
        for some in (alike, list(known.values())):
            if len(some) >= self.baseline.least_days:
                history = day - self.own_lag + 1 - first
                return quantile(some, self.baseline.quantile), 1 + (self.own_lag - 1) / (2 * history)
        return None

    def need(self, actor: str, peer: str, day: int) -> float:
        peaks, peers = self.peaks[actor], self.near(peer, day)
        since = self.at_this_desk_since(actor, day)
        before = [e.time // DAY for e in self.by_actor[actor] if e.time // DAY < since]
        span = self.own_lag - 1
        if before and max(before) + span >= since and day < since + span:
            # Its windows contain work of both desks.
            levels = (peers, self.near(self.peer_on[actor, max(before)], day))
            peers = max((level for level in levels if level is not None), default=None)
        factor = self.baseline.factor
        if self.baseline.of is BaselineOf.peers:
            usual = peers
        elif self.baseline.of is BaselineOf.self:
            own = self.own({d: (float(peak), 1.0) for d, peak in peaks.items()}, actor, day)
            usual, factor = (peers, self.stranger_factor) if own is None else (own[0], factor * own[1])
        else:
            beside = {d: (peak / level[0], level[1]) for d, peak in peaks.items() if (level := self.level(peer, d))}
            own = self.own(beside, actor, day)
            usual = None if peers is None else (1.0 if own is None else own[0]) * peers
            factor = self.stranger_factor if own is None else factor * own[1]
        if usual is None:
            return float("inf") if self.baseline.cold is None else max(self.baseline.cold, self.floor)
        return max(ceil(factor * usual), self.floor)

    def findings(self) -> list[tuple[Any, ...]]:
        return sorted(one for actor in self.by_actor for one in self._of(actor))

    def _of(self, actor: str) -> list[tuple[Any, ...]]:
        runs: list[list[Any]] = []
        for pane in self.panes(actor):
            events, day = self.window(actor, pane), pane * self.width // DAY
            need = self.need(actor, self.peer_on[actor, day], day)
            size = self.count(events)
            if size < need:
                continue
            if runs and pane - runs[-1][1] - 1 <= self.keep:
                runs[-1][1:3] = pane, max(runs[-1][2], size)
            else:
                before = [e for e in events if e.time // self.width < pane]
                inside = [e for e in events if e.time // self.width == pane]
                at = next(n for n in range(1, len(inside) + 1) if self.count(before + inside[:n]) >= need)
                runs.append([pane, pane, size, inside[at - 1].time, need])
        times = [event.time // self.width for event in self.by_actor[actor]]
        return [
            (actor, opened, (last + 1) * self.width, peak,
             bisect_left(times, last + 1) - bisect_left(times, first - self.span + 1), need)
            for first, last, peak, opened, need in runs
        ]  # fmt: skip


def quantile(values: list[float], share: float) -> float:
    values, place = sorted(values), (len(values) - 1) * share
    low, high = values[int(place)], values[ceil(place)]
    return low + (high - low) * (place - int(place))


def weekend(day: int) -> bool:
    return (day + 3) % 7 >= 5


def told(finding: Finding, offset: int = 0) -> tuple[Any, ...]:
    assert finding.closed_at is not None
    opened, closed = finding.opened_at // 1_000_000, finding.closed_at // 1_000_000
    who, expected = finding.shown["actor"], finding.expected
    assert expected is None or finding.threshold >= expected
    return (who, opened + offset, closed + offset, finding.peak, finding.count, finding.threshold)


@pytest.fixture(scope="module")
def rule(tmp_path_factory: pytest.TempPathFactory) -> Rule:
    path = tmp_path_factory.mktemp("rules") / "rules.yml"
    path.write_text(RULE)
    return load_rules([path])[0]


def made_up(rng: random.Random, days: int) -> list[dict[str, Any]]:
    """Generates working days of actors in two departments, with some outliers and some moves."""
    events: list[dict[str, Any]] = []
    for at in range(rng.randint(2, 7)):
        habit, moves = rng.randint(1, 5), rng.choice([None, None, rng.randrange(2, days)])
        for day in range(days):
            # No actor works on the day before a move, because the order of the last and first events would matter.
            is_off = moves is not None and day == moves - 1
            much = 0 if is_off else rng.choice([0, habit, habit, habit, habit * 3])
            desk = at + (moves is not None and day >= moves)
            events += [
                {
                    "time": START + day * DAY + rng.randrange(DAY),
                    "actor": f"P{at}",
                    "peer_group": f"D{desk % 2}",
                    "subject": f"S{rng.randrange(30)}",
                    "action": "read",
                }
                for _ in range(rng.randint(0, much))
            ]
    return events


def out_of_order(rng: random.Random, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Delays each event by up to two hours."""
    return sorted(events, key=lambda event: event["time"] + rng.randrange(7200))


@settings(deadline=None)
@given(
    st.integers(0, 10**9),
    st.sampled_from(list(BaselineOf)),
    st.booleans(),
    st.sampled_from(["1d", "1h", "3d", "7d"]),
    st.sampled_from([None, 6]),
    st.sampled_from(["UTC", "Asia/Shanghai", "America/New_York"]),
)
def test_findings_equal_the_oracle_in_any_order_and_over_restarts(
    rule: Rule, seed: int, of: BaselineOf, counts_values: bool, span: str, cold: int | None, zone: str
) -> None:
    rng = random.Random(seed)
    timespan = {"1h": timedelta(hours=1), "1d": timedelta(days=1), "3d": timedelta(days=3), "7d": timedelta(days=7)}[
        span
    ]
    assert rule.baseline is not None
    rule = replace(
        rule,
        distinct="subject" if counts_values else None,
        timespan=timespan,
        resolution=timedelta(hours=1),
        keep_open=timedelta(hours=rng.choice([0, 6, 30])),
        baseline=rule.baseline.model_copy(
            update={
                "of": of,
                "cold": cold,
                "quantile": rng.choice([0.5, 0.9]),
                "stranger_factor": rng.choice([None, 1.0]),
            }
        ),
    )
    events = made_up(rng, 30 if span == "7d" else 14)
    plan = build_plan([rule], load_mapping("custodes", zone), allowed_lateness=LATENESS)
    findings = findings_over_restarts([rule], plan, out_of_order(rng, events), rng)
    offset = {"UTC": 0, "Asia/Shanghai": 8, "America/New_York": -5}[zone] * 3600
    seen = [OracleEvent(e["time"] + offset, e["actor"], e["peer_group"], (e["subject"],)) for e in events]
    assert sorted(told(one, offset) for one in findings) == Oracle(seen, rule).findings()


def test_a_changed_factor_keeps_the_baseline(rule: Rule) -> None:
    """A change of settings keeps the days of a baseline; open findings end, as with any other threshold."""
    assert rule.baseline is not None
    events = sorted(made_up(random.Random(6), 10), key=lambda event: int(event["time"]))
    mapping = load_mapping("custodes")
    stricter = replace(rule, baseline=rule.baseline.model_copy(update={"factor": 1.0}))
    engine = Engine(build_plan([rule], mapping))
    lines = [json.dumps(event).encode() for event in events]
    engine.process_lines(b"\n".join(lines))
    restored = engine.replanned(build_plan([stricter], mapping), {})
    assert (restored.dropped.windows, restored.dropped.decisions) == ([], [rule.id])
    engine = restored.engine
    same = Engine(build_plan([stricter], mapping))
    same.process_lines(b"\n".join(lines))
    burst = [{**events[-1], "time": START + 10 * DAY + n, "subject": f"S{n}"} for n in range(20)]
    late = b"\n".join(json.dumps(event).encode() for event in burst)
    opened = [
        [(change.threshold, change.expected) for change in one.process_lines(late).changes if change.kind == "opened"]
        for one in (engine, same)
    ]
    assert opened[0] == opened[1] != []


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("{of: everyone}", "custodes.baseline.of: Input should be 'self', 'peers' or 'both'"),
        ("{ovr: 3d}", "custodes.baseline.ovr: unknown key (did you mean 'over'?)"),
        ("{over: 3h}", "custodes.baseline.over: Input should be greater than or equal to 1 day"),
        ("{factor: 0}", "custodes.baseline.factor: Input should be greater than 0"),
        ("much", "custodes.baseline must be a mapping, like {of: self, factor: 3}"),
    ],
)
def test_an_invalid_baseline_is_an_error_with_its_line(said: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "rules.yml"
    path.write_text(RULE.replace("{of: both, over: 6d, factor: 1.5, least_days: 2, least_peers: 2}", said))
    assert faults_of(path) == [f"{path}:11: {fault}"]


def test_a_baseline_requires_a_lower_bound(tmp_path: Path) -> None:
    path = tmp_path / "rules.yml"
    path.write_text(RULE.replace("gte: 3", "lt: 3"))
    with pytest.raises(FaultsError, match="a baseline raises a threshold; the condition must be gte or gt"):
        load_rules([path])


def test_a_baseline_is_described(rule: Rule) -> None:
    assert rule.baseline is not None
    assert rule.fires == "gte 3, if that is 1.5 times its own expected ratio to its peers"
    cold = Baseline(of=BaselineOf.peers, cold=1500)
    assert cold.summary == "3 times the expected value of its peers, or 1,500 while no value is expected yet"
    assert Baseline().as_plan()["of"] == "own"
