"""A stream split over several files has the findings of the whole, and so has one with some times far ahead."""

from __future__ import annotations

import gzip
import json
import random
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from custodes._core import Engine
from custodes.authoring.recorded_events import event_times
from custodes.config.mapping import load_mapping
from custodes.findings import FindingAccumulator
from custodes.rules import Rule, build_plan, load_rules, shipped_pack
from custodes.rules.baseline import Baseline, BaselineOf
from custodes.sources import file
from custodes.sources.replay import replay_files
from custodes.sources.replay_coverage import ReplayCoverage

MAPPING = load_mapping("custodes")
START = 1_767_571_200
PACK = {rule.title: rule for rule in load_rules(shipped_pack())}
DAY = timedelta(days=1)
HOURLY = replace(PACK["Bulk lookups"], baseline=None, holds={"gte": 8})
RULES = [
    HOURLY,
    replace(PACK["Celebrity snooping"], holds={"gte": 9}),
    replace(
        HOURLY,
        id="daily",
        timespan=DAY,
        resolution=DAY / 24,
        holds={"gte": 3},
        baseline=Baseline(of=BaselineOf.self, over=14 * DAY, factor=1.5, least_days=3),
    ),
]
TIMES = event_times(MAPPING)


def found(paths: Sequence[Path], rules: Sequence[Rule] = RULES) -> tuple[list[Any], ReplayCoverage]:
    """Returns the findings without their ids, which depend on the order of the events, and the coverage."""
    engine = Engine(build_plan(rules, MAPPING))
    ledger, coverage = FindingAccumulator(rules), ReplayCoverage()
    for batch, _ in replay_files(engine, paths, TIMES, coverage):
        ledger.apply(batch.changes)
    findings = [finding.as_dict() | {"id": None} for finding in ledger.findings()]
    return sorted(findings, key=json.dumps), coverage


def stream(seed: int, count: int, days: float) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    times = sorted(START + rng.random() * days * 86_400 for _ in range(count))
    return [
        {
            "time": round(time, 3),
            "actor": f"P{int(rng.paretovariate(0.7)) % 12}",
            "subject": f"S{int(rng.paretovariate(0.3)) % 400}",
            "action": "read",
        }
        for time in times
    ]


def written(parts: Sequence[Sequence[dict[str, Any]]]) -> list[Path]:
    folder = Path(tempfile.mkdtemp())
    paths = [folder / f"{number}.jsonl.gz" for number in range(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        path.write_bytes(gzip.compress(b"".join(json.dumps(event).encode() + b"\n" for event in part), 1))
    return paths


def split(events: Sequence[dict[str, Any]], how: str, files: int, rng: random.Random) -> list[list[dict[str, Any]]]:
    parts: list[list[dict[str, Any]]] = [[] for _ in range(files)]
    for number, event in enumerate(events):
        if how == "by time":
            place = number * files // len(events)
        elif how == "by subject":
            place = len(event["subject"]) % files
        elif how == "overlapping":
            place = min(files - 1, max(0, number * files // len(events) + rng.randrange(-1, 2)))
        else:
            place = rng.randrange(files)
        parts[place].append(event)
    rng.shuffle(parts)
    return parts


@given(
    seed=st.integers(0, 1 << 30),
    files=st.integers(1, 9),
    how=st.sampled_from(["by time", "by subject", "overlapping", "at random"]),
    days=st.sampled_from([2, 20, 60]),
    piece=st.sampled_from([300, 5000, 200_000]),
)
@settings(max_examples=25, deadline=None)
def test_any_split_has_the_findings_of_the_whole(seed: int, files: int, how: str, days: float, piece: int) -> None:
    events = stream(seed, 1500, days)
    whole, _ = found(written([events]))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("BLOCK", "_SMALLEST", "_TURN"):
            patch.setattr(file, name, min(piece, getattr(file, name)))
        parts, coverage = found(written(split(events, how, files, random.Random(seed))))
    assert parts == whole
    assert whole
    assert (coverage.events, coverage.late, coverage.rejected) == (1500, 0, {})


@given(
    seed=st.integers(0, 1 << 30),
    files=st.integers(1, 4),
    wrong=st.lists(st.tuples(st.integers(0, 1499), st.integers(26, 40_000)), min_size=1, max_size=8),
    piece=st.sampled_from([300, 5000, 200_000]),
)
@settings(max_examples=25, deadline=None)
def test_events_far_ahead_count_at_their_time(seed: int, files: int, wrong: list[tuple[int, int]], piece: int) -> None:
    events = stream(seed, 1500, 20)
    ahead = list(events)
    for place, hours in sorted(wrong, reverse=True):
        time = events[place]["time"] + timedelta(hours=hours).total_seconds()
        ahead.insert(place, {"time": time, "actor": "wrong clock", "subject": f"T{place}", "action": "read"})
    whole, _ = found(written([sorted(ahead, key=itemgetter("time"))]))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("BLOCK", "_SMALLEST", "_TURN"):
            patch.setattr(file, name, min(piece, getattr(file, name)))
        parts, coverage = found(written(split(ahead, "at random", files, random.Random(seed))))
    assert parts == whole
    assert (coverage.events, coverage.late) == (1500 + len(wrong), 0)
