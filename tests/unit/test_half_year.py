"""The simulated half year: reproducible by seed, with and without insiders, with correct labels."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from pathlib import Path

import orjson
import pytest
import zstandard

from custodes.authoring.labels import read_labels
from custodes.demo.half_year import HalfYear, simulation, write

DAYS = 60


def small(seed: int, insiders: bool = True) -> HalfYear:
    return HalfYear(seed, people=120, subjects=5_000, insiders=insiders)


def test_insiders_do_not_change_the_work_of_others() -> None:
    half_year = small(3)
    apart = list(islice(half_year.days_apart(), DAYS))
    clean = list(islice(small(3, insiders=False).days(), DAYS))
    assert [work.events for work, _ in apart] == [day.events for day in clean]
    taken = [time for _, deeds in apart for time, _ in deeds.events]
    assert taken != []
    assert sorted(taken) == sorted(time for deed in half_year.deeds for time in deed.times if time <= max(taken))
    assert small(4, insiders=False).staff != small(3, insiders=False).staff


def test_events_are_canonical_and_ordered_by_time() -> None:
    last = 0
    for day in islice(small(5).days(), 8):
        for time, line in day.events:
            event = orjson.loads(line)
            assert event["time"] * 1000 == time >= last
            assert event["actor"].startswith(("P", "svc-"))
            assert len(event["subject"]) == 18
            last = time


def test_identity_numbers_have_their_check_digit() -> None:
    # Example of GB 11643-1999.
    assert simulation.with_check_digit("11010519491231002") == "11010519491231002X"


def test_written_events_can_be_backtested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "DAYS", DAYS)
    half_year = small(6)
    write(half_year, tmp_path)
    with zstandard.open(tmp_path / "events.jsonl.zst", "rb") as file:
        events = [orjson.loads(line) for line in file.read().splitlines()]
    written = {(event["time"], event["actor"], event["subject"]) for event in events}
    labels = read_labels(tmp_path / "labels.jsonl")
    assert {label.kind for label in labels} >= {"low and slow"}
    slow = next(label for label in labels if label.kind == "low and slow")
    times = {time for time, actor, _ in written if actor == slow.group["actor"]}
    assert all(_millis(time) in times for time in slow.times)
    assert (tmp_path / "watched.csv").read_text() == f"person\n{half_year.canary}\n"


def _millis(time: datetime) -> int:
    return round(time.timestamp() * 1000)
