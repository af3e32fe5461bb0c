"""The history's files: recovery after a crash, retention, and queries while files change."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from custodes._core import Engine, Recording
from custodes.config.mapping import load_mapping
from custodes.config.normal_forms import NormalForms
from custodes.history import History, HistoryWriter, SegmentStore
from custodes.history.compaction import FAN_IN, merge
from custodes.rules import build_plan
from servers import eventually

PLAN = json.dumps({"mapping": {name: [name] for name in ("time", "actor", "subject")}, "rules": [], "history": True})
DAY = 86_400_000_000
START = 20_000 * DAY


def recorded(first: int, *days: int) -> Recording:
    events = [{"time": (START + day * DAY), "actor": f"a{day % 3}", "subject": "s"} for day in days]
    return Engine(PLAN).process_lines("\n".join(map(json.dumps, events)).encode(), first).recording


def filled(folder: Path, days: list[int], keep: int = 10_000, **bounds: int) -> tuple[SegmentStore, HistoryWriter]:
    """One segment per day."""
    shelf = SegmentStore(folder)
    writer = HistoryWriter(shelf, timedelta(days=keep), **bounds)
    for at, day in enumerate(days):
        writer.take("x", recorded(at, day))
        writer.flush()
    writer.wait_until_compacted()
    return shelf, writer


def test_leftovers_of_a_merge_are_removed_at_the_next_start(tmp_path: Path) -> None:
    shelf, writer = filled(tmp_path, list(range(FAN_IN - 1)))
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.parquet")}
    assert len(before) == FAN_IN - 1
    merge(shelf, shelf.segments)
    writer.close()
    for name, data in before.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "0000000009-0000000009.new").write_bytes(b"cut sh")
    again = SegmentStore(tmp_path)
    assert [(one.first, one.last, one.rows) for one in again.segments] == [(1, FAN_IN - 1, FAN_IN - 1)]
    assert sorted(path.name for path in tmp_path.glob("0*")) == [again.segments[0].name]
    again.close()


def test_expired_segments_are_removed(tmp_path: Path) -> None:
    shelf, writer = filled(tmp_path, [0, 1, 5, 20, 21], keep=18)
    assert [(one.newest - START) // DAY for one in shelf.segments] == [5, 20, 21]
    assert len(History(shelf).accesses({"subject": "s"})) == 3
    writer.close()


def test_retention_does_not_wait_for_merges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If events arrive faster than they can be merged, merging never ends."""
    monkeypatch.setattr("custodes.history.writer.mergeable", lambda segments, most_apart: segments)
    monkeypatch.setattr("custodes.history.writer.merge", lambda shelf, row: None)
    shelf = SegmentStore(tmp_path)
    writer = HistoryWriter(shelf, timedelta(days=18))
    try:
        for at, day in enumerate([0, 20, 30]):
            writer.take("x", recorded(at, day))
            writer.flush()
        eventually("the first to go", lambda: [one.rows for one in shelf.segments] == [1, 1], limit=10)
    finally:
        writer.close()


def test_files_are_kept_while_they_are_read(tmp_path: Path) -> None:
    shelf, writer = filled(tmp_path, [0, 1, 2])
    with shelf.reading(since=START + DAY) as segments:
        assert [one.first for one in segments] == [2, 3]
        files = [tmp_path / one.name for one in segments]
        shelf.drop(shelf.segments)
        assert all(file.exists() for file in files)
        with shelf.reading() as later:
            assert later == []
        assert all(file.exists() for file in files)
    assert not list(tmp_path.glob("*.parquet"))
    writer.close()


def test_unwritten_rows_wait_up_to_a_limit(tmp_path: Path) -> None:
    shelf, writer = filled(tmp_path, [], most_waiting=2)
    put, shelf.put = shelf.put, refuse  # type: ignore[method-assign, assignment]
    writer.take("x", recorded(0, 0, 1))
    with pytest.raises(OSError, match="No space"):
        writer.flush()
    writer.take("x", recorded(2, 2))
    assert (writer.waiting_rows, writer.lost) == (2, 1)
    shelf.put = put  # type: ignore[method-assign]
    writer.flush()
    assert (writer.waiting_rows, [one.rows for one in shelf.segments]) == (0, [2])
    writer.close()


def refuse(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_log_that_took_the_place_of_another_is_written_from_its_start(tmp_path: Path) -> None:
    shelf, writer = filled(tmp_path, [0, 1, 2])
    writer.close()
    shelf = SegmentStore(tmp_path)
    writer = HistoryWriter(shelf, timedelta(days=10_000))
    writer.take("x", recorded(0, 5))
    writer.take("x#1", recorded(0, 6))
    writer.close()
    shelf = SegmentStore(tmp_path)
    writer = HistoryWriter(shelf, timedelta(days=10_000))
    writer.take("x#1", recorded(0, 6))
    writer.take("x#1", recorded(1, 7))
    writer.flush()
    assert [(one.time - START) // DAY for one in History(shelf).accesses({})] == [7, 6, 2, 1, 0]
    writer.close()


def test_profiles(tmp_path: Path) -> None:
    shelf, writer = filled(tmp_path, [0, 3, 6, 1])
    history = History(shelf, writer)
    profile = history.profile("actor", "a0")
    assert (profile.accesses, profile.others, sum(profile.by_hour), len(profile.by_day)) == (3, 1, 3, 3)
    assert (profile.first, profile.last, profile.top_others) == (START, START + 6 * DAY, [("s", 3)])
    assert history.profile("subject", "s", since=START + DAY).top_others == [("a0", 2), ("a1", 1)]
    assert history.profile("actor", "nobody").accesses == 0
    assert (history.actors("a"), history.actors("b"), history.knows("subject", "s")) == (["a0", "a1"], [], True)
    with pytest.raises(ValueError, match="no column 'name'"):
        history.accesses({"name": "x"})
    writer.take("x", recorded(9, 9))
    assert history.profile("actor", "a0").accesses == 4, "what was taken is found at once"
    writer.close()


def test_a_damaged_file_is_reported_by_name(tmp_path: Path) -> None:
    _, writer = filled(tmp_path, [0, 1])
    writer.close()
    broken = next(tmp_path.glob("*.parquet"))
    broken.write_bytes(broken.read_bytes()[:50])
    shelf = SegmentStore(tmp_path)
    assert [one.rows for one in shelf.segments] == [1]
    assert [path.name for path in tmp_path.glob("*.damaged")] == [broken.name + ".damaged"]
    shelf.close()


def test_segments_that_end_too_far_apart_stay_apart(tmp_path: Path) -> None:
    """A merged file expires as a whole: its oldest event is kept as long as its newest."""
    shelf, writer = filled(tmp_path, list(range(FAN_IN)), keep=16 * (FAN_IN - 2))
    assert len(shelf.segments) == FAN_IN
    writer.close()
    shelf, writer = filled(tmp_path / "longer", list(range(FAN_IN)), keep=16 * (FAN_IN - 1))
    assert len(shelf.segments) == 1
    writer.close()


def test_the_latest_events_are_found_without_opening_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    days = [3, 9, 1, 4, 15, 2, 6]
    shelf, writer = filled(tmp_path, days)
    history = History(shelf)
    (tmp_path / shelf.segments[2].name).write_bytes(b"not to be read")
    found = history.accesses({}, limit=3)
    assert [(one.time - START) // DAY for one in found] == [15, 9, 6]
    last = found[-1]
    following = history.accesses({}, before=(last.time, last.source, last.position), limit=2)
    assert [(one.time - START) // DAY for one in following] == [4, 3]
    writer.close()


@pytest.mark.parametrize("beginning", ["a", "", "\ud7ff", "\U0010ffff", "a\U0010ffff", "é"])
def test_actors_that_begin_with_a_text(tmp_path: Path, beginning: str) -> None:
    names = [
        "a",
        "a0",
        "b",
        "\ud7ff",
        "\ud7ffz",
        "\ue000",
        "\U0010ffff",
        "\U0010ffffz",
        "a\U0010ffff",
        "é",
        "éa",
        "ê",
        "A",
    ]
    events = [json.dumps({"time": START, "actor": name}) for name in names]
    shelf, writer = filled(tmp_path, [])
    writer.take("x", Engine(PLAN).process_lines("\n".join(events).encode(), 0).recording)
    writer.flush()
    assert History(shelf, forms=NormalForms({})).actors(beginning) == sorted(
        name for name in names if name.startswith(beginning)
    )
    writer.close()


def test_one_identity_in_several_spellings_is_found_in_any(tmp_path: Path) -> None:
    times = (START + n for n in range(4))
    spelled = [
        ("anna", "x1", "SELECT"),
        (" ANNA", ["X1", "x2"], "read"),
        ("ａｎｎａ", "X1", None),
        ("b", "x1", "export"),
    ]
    events = [
        {"time": time, "actor": actor, "subject": subject, "action": action, "peer_group": "one"}
        for time, (actor, subject, action) in zip(times, spelled, strict=True)
    ]
    plan = build_plan([], load_mapping("custodes"), history=True)
    shelf, writer = filled(tmp_path, [])
    writer.take("x", Engine(plan).process_lines("\n".join(map(json.dumps, events)).encode(), 0).recording)
    writer.flush()
    history = History(shelf)
    shown = [(one.actor, one.subject, one.action) for one in history.accesses({"actor": "Anna"})]
    assert shown == [
        ("ａｎｎａ", "X1", "read"),
        (" ANNA", "X1", "read"),
        (" ANNA", "x2", "read"),
        ("anna", "x1", "SELECT"),
    ]
    assert len(history.accesses({"subject": "x1"})) == len(history.accesses({"subject": "X1"})) == 4
    assert len(history.accesses({"action": "view"})) == 4
    profile = history.profile("actor", "anna")
    assert (profile.accesses, profile.others) == (4, 2)
    assert profile.top_others == [("X1", 3), ("x2", 1)]
    assert history.actors("An") == [" ANNA"]
    assert history.lookers(["x1"]) == {"x1": [(" ANNA", 3), ("b", 1)]}
    assert history.peers("anna", "one", START).theirs == 2
    records = history.records({"actor": "anna", "subject": "X1"}, since=START, until=START + DAY, limit=10)
    assert [json.loads(one.record)["actor"] for one in records] == ["anna", " ANNA", "ａｎｎａ"]


def test_files_without_spellings_are_read_with_those_that_have_them(tmp_path: Path) -> None:
    shelf, writer = filled(tmp_path, [0, 1])
    (before, _) = [shelf.place(one.name) for one in shelf.segments]
    cursor = shelf.database.cursor()
    for column in ("actor_written", "subject_written", "action_written"):
        cursor.execute(f"COPY (SELECT * EXCLUDE ({column}) FROM '{before}') TO '{tmp_path}/old' (FORMAT parquet)")
        (tmp_path / "old").replace(before)
    assert len(History(shelf).accesses({"subject": "s"})) == 2
    assert [one.actor for one in History(shelf).accesses({"actor": "a0"})] == ["a0"]
    writer.close()
    (tmp_path / Path(shelf.place(shelf.segments[1].name)).name).unlink()
    assert len(History(SegmentStore(tmp_path)).accesses({"subject": "s"})) == 1
