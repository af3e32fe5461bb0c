"""Backtests: the findings at every threshold equal the oracle's, and a budget is kept."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import oracle
from custodes._core import Engine
from custodes.authoring.backtest import backtest
from custodes.authoring.labels import read_labels
from custodes.authoring.plot import plot
from custodes.authoring.recorded_events import EventFiles, EventRecords, event_times
from custodes.authoring.sweep_parameter import BacktestError, SweepParameter
from custodes.config import FaultsError
from custodes.config.mapping import load_mapping
from custodes.demo.agency import Agency
from custodes.findings import FindingAccumulator
from custodes.rules import Rule, build_plan, load_rules, shipped_pack
from custodes.rules.baseline import Baseline, BaselineOf

START = 1_767_600_000
SVG = "{http://www.w3.org/2000/svg}"
MAPPING = load_mapping("custodes")
WRITE = partial(build_plan, mapping=MAPPING)
PACK = {rule.title: rule for rule in load_rules(shipped_pack())}
HOURLY = replace(PACK["Bulk lookups"], baseline=None, holds={"gte": 8})


def events(seed: int, count: int = 3000, hours: int = 400) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    times = sorted(START + rng.randrange(hours * 3600) for _ in range(count))
    return [
        {
            "time": time,
            "actor": f"P{int(rng.paretovariate(1)) % 20}",
            "subject": f"S{rng.randrange(60)}",
            "action": "read",
        }
        for time in times
    ]


def recorded(paths: list[Path]) -> EventFiles:
    return EventFiles(paths, event_times(MAPPING))


def written(folder: Path, stream: list[dict[str, Any]]) -> Path:
    path = folder / "events.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in stream))
    return path


def found_by_oracle(stream: list[dict[str, Any]], rule: Rule, threshold: int) -> list[oracle.OracleFinding]:
    seconds = int(rule.timespan.total_seconds())
    same = oracle.OracleRule(
        rule.group_by, seconds, distinct=rule.distinct, resolution=int(rule.resolution.total_seconds()),
        **oracle.gte(threshold),
    )  # fmt: skip
    return oracle.findings([{**event, "time": event["time"] * 1_000_000} for event in stream], same)


@pytest.mark.parametrize("seed", range(4))
def test_the_findings_at_every_threshold_equal_the_oracle(seed: int, tmp_path: Path) -> None:
    stream = events(seed)
    result = backtest(HOURLY, recorded([written(tmp_path, stream)]), WRITE, budget=10, threads=1 + seed % 2)
    assert (result.coverage.events, result.coverage.rejected.total()) == (len(stream), 0)
    assert result.weeks == pytest.approx((stream[-1]["time"] - stream[0]["time"]) / (7 * 86_400))
    assert result.own.threshold == 8
    counts = {threshold: found_by_oracle(stream, HOURLY, threshold) for threshold in range(2, 62)}
    for at in result.thresholds:
        expected = counts.get(int(at.threshold), [])
        assert (at.findings, at.groups) == (len(expected), len({one.group for one in expected})), at
    keeping = [t for t in counts if all(len(counts[u]) <= 10 * result.weeks for u in counts if u >= t)]
    assert result.suggested is not None
    assert result.suggested.threshold == min(keeping)


def test_the_findings_at_every_factor_equal_those_of_a_rule_with_it(tmp_path: Path) -> None:
    path = written(tmp_path, events(7, count=6000, hours=30 * 24))
    usual = Baseline(of=BaselineOf.self, over=timedelta(days=14), factor=1.5, least_days=3)
    rule = replace(HOURLY, timespan=timedelta(days=1), resolution=timedelta(hours=1), holds={"gte": 3}, baseline=usual)
    result = backtest(rule, recorded([path]), WRITE, budget=3, lever=SweepParameter.factor)
    assert result.own.threshold == 1.5
    assert (result.own.findings, result.suggested is not None) == (len(result.findings), True)
    for at in result.thresholds[::6]:
        other = replace(rule, baseline=usual.model_copy(update={"factor": at.threshold}))
        engine, ledger = Engine(build_plan([other], MAPPING)), FindingAccumulator([other])
        ledger.apply(engine.process_lines(path.read_bytes()).changes)
        ledger.apply(engine.finish().changes)
        assert len(ledger.findings()) == at.findings, at
    with pytest.raises(BacktestError, match="no baseline, and so no factor"):
        backtest(HOURLY, recorded([path]), WRITE, lever=SweepParameter.factor)


@pytest.mark.parametrize(("budget", "threshold"), [(0.0, 61), (1e6, 1)])
def test_a_budget_of_zero_and_an_unlimited_one(budget: float, threshold: int, tmp_path: Path) -> None:
    stream = [{"time": START + n, "actor": "P1", "subject": f"S{n}", "action": "read"} for n in range(60)]
    stream.append({**stream[0], "time": START + 90_000})
    result = backtest(HOURLY, recorded([written(tmp_path, stream)]), WRITE, budget=budget)
    assert result.suggested is not None
    assert result.suggested.threshold == threshold


def test_labels_show_found_cases_and_records_taken_before(tmp_path: Path) -> None:
    stream = [{"time": START + 60 * n, "actor": "P1", "subject": f"S{n}", "action": "read"} for n in range(30)]
    stream += [{"time": START + 60 * n, "actor": "P2", "subject": f"S{n}", "action": "read"} for n in range(7)]
    path = tmp_path / "labels.jsonl"
    labels = [
        {"kind": who, "group": {"actor": who}, "times": [stamp(60 * n + later) for n in range(count)]}
        for who, count, later in (("P1", 30, 0), ("P2", 7, 0), ("P1", 30, 200_000))
    ]
    path.write_text("\n".join(map(json.dumps, labels)) + "\n\n")
    result = backtest(HOURLY, recorded([written(tmp_path, stream)]), WRITE, labels=read_labels(path))
    assert [(verdict.opened_at, verdict.taken) for verdict in result.verdicts] == [
        ((START + 7 * 60) * 1_000_000, 8),
        (None, 7),
        (None, 30),
    ]


def stamp(seconds: int) -> str:
    return datetime.fromtimestamp(START + seconds, UTC).isoformat()


def test_untestable_rules_are_reported_with_the_reason(tmp_path: Path) -> None:
    path = written(tmp_path, events(1, 10))
    with pytest.raises(BacktestError, match="'Bulk lookups' has no threshold that more events reach"):
        backtest(replace(HOURLY, holds={"gte": 3, "lt": 9}), recorded([path]), WRITE)
    path.write_text('{"actor": "P1"}\n')
    with pytest.raises(BacktestError, match="no event that can be counted"):
        backtest(HOURLY, recorded([path]), WRITE)
    labels = tmp_path / "labels.jsonl"
    labels.write_text('{"kind": "x", "group": {"actor": "P1"}, "times": ["2026-01-05T08:00:00"]}\n{"kind": 3}\n')
    with pytest.raises(FaultsError) as caught:
        read_labels(labels)
    assert [(fault.line, fault.message) for fault in caught.value.faults] == [
        (1, "times.0: Input should have timezone info"),
        (2, "kind: Input should be a valid string"),
        (2, "group: Field required"),
        (2, "times: Field required"),
    ]


@pytest.fixture(scope="module")
def months(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two months of an agency with an unused seed, without its insiders."""
    agency = Agency(seed=20_261_125)
    days = list(islice(agency.days(), 56))
    insiders = [f'"{insider.group_by}":"{insider.value}"'.encode() for insider in agency.insiders]
    paths = []
    for number, month in enumerate((days[:28], days[28:])):
        paths.append(tmp_path_factory.mktemp("months") / f"{number}.jsonl")
        lines = [line for day in month for _, line in day.events if not any(one in line for one in insiders)]
        paths[-1].write_bytes(b"".join(lines))
    return paths


@pytest.mark.parametrize("title", ["Bulk lookups", "Slow copying", "Celebrity snooping"])
def test_a_suggested_threshold_keeps_its_budget_in_the_next_month(title: str, months: list[Path]) -> None:
    """With a budget of two per week, the next month has few findings."""
    tried = backtest(PACK[title], recorded(months[:1]), WRITE, budget=2, threads=2)
    assert tried.suggested is not None
    assert tried.suggested.a_week(tried.weeks) <= 2
    rule = replace(PACK[title], holds={"gte": tried.suggested.threshold})
    after = backtest(rule, recorded(months[1:]), WRITE, threads=2)
    assert timedelta(days=25) < timedelta(weeks=after.weeks) < timedelta(days=29)
    assert 0 <= after.own.a_week(after.weeks) <= 5


def test_the_plot_shows_thresholds_and_budget_but_no_names(tmp_path: Path) -> None:
    stream = events(1)
    rule = replace(HOURLY, title="Bulk <lookups> & more")
    result = backtest(rule, recorded([written(tmp_path, stream)]), WRITE, budget=10)
    assert result.suggested is not None
    picture = plot(result, 10)
    svg = ElementTree.fromstring(picture)
    texts = [element.text for element in svg.iter(f"{SVG}text")]
    assert "Bulk <lookups> & more: findings per week by threshold" in texts
    assert {"own 8", f"suggested {result.suggested.threshold}", "budget 10"} <= set(texts)
    (curve,) = svg.iter(f"{SVG}polyline")
    points = [tuple(map(float, point.split(","))) for point in curve.attrib["points"].split()]
    assert len(points) == 1 + sum(at.findings > 0 for at in result.thresholds)
    assert all(70 <= x <= 730 and 50 <= y <= 360 for x, y in points)
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert not any(event["actor"] in picture for event in stream)
    empty = backtest(replace(rule, holds={"gte": 5000}), recorded([tmp_path / "events.jsonl"]), WRITE)
    assert "own 5,000" in plot(empty, None)


def test_records_in_memory_equal_a_file(tmp_path: Path) -> None:
    stream = [("a", n, n % 7) for n in range(50)]
    lines = [
        json.dumps({"time": 1_767_600_000 + at * 60, "actor": actor, "subject": f"S{s}", "action": "read"}).encode()
        for actor, at, s in stream
    ]
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    files, records = (backtest(HOURLY, past, WRITE, budget=10) for past in (recorded([path]), EventRecords(lines)))
    assert replace(files, coverage=records.coverage) == records
    assert files.coverage.events == records.coverage.events
    with pytest.raises(BacktestError, match="no event that"):
        backtest(HOURLY, EventRecords([]), WRITE)
