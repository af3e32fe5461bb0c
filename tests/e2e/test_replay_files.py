"""`custodes replay` and `rules backtest` on files as they are found: cut off, damaged, of several servers, late."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import zstandard

from commands import custodes

START = datetime(2026, 6, 15, 8, tzinfo=UTC)
RULE = """
title: Reads
id: 11111111-1111-4111-8111-111111111111
logsource: {product: custodes}
detection: {selection: {action: read}, condition: selection}
name: reads
---
title: Many reads
id: 22222222-2222-4222-8222-222222222222
level: medium
correlation: {type: event_count, rules: [reads], group-by: [actor], timespan: 10m, condition: {gte: 100}}
"""


def event(seconds: float, actor: str = "P1") -> bytes:
    time = (START + timedelta(seconds=seconds)).isoformat()
    return json.dumps({"time": time, "actor": actor, "subject": f"S{seconds}", "action": "read"}).encode() + b"\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rule.yml").write_text(RULE)
    return tmp_path


def replay(folder: Path, *arguments: str) -> tuple[int, list[Any], str]:
    """Returns the exit code, the findings, and what was told on standard error."""
    done = custodes("replay", *arguments, "--rules", "rule.yml", "--output", "ndjson", cwd=folder)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()


def test_files_that_cannot_be_read_to_the_end(folder: Path) -> None:
    text = b"".join(event(n) for n in range(200))
    (folder / "whole.jsonl").write_bytes(text)
    (folder / "cut.jsonl.gz").write_bytes(gzip.compress(text)[:-20])
    (folder / "cut.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(text)[:-20])
    (folder / "report.csv").write_bytes(b"time,actor\n2026-06-15T08:00:00Z,P1\n" * 1000)
    files = ["cut.jsonl.gz", "report.csv", "cut.jsonl.zst", "whole.jsonl"]
    code, findings, errors = replay(folder, *files, "--dead-letters", "dead.jsonl", "--stats")
    assert (code, len(findings)) == (1, 1)
    assert findings[0]["count"] >= 200
    letters = [json.loads(line) for line in (folder / "dead.jsonl").read_text().splitlines()]
    assert {(letter["file"], letter["reason"]) for letter in letters} == {
        ("cut.jsonl.gz", "truncated"),
        ("cut.jsonl.zst", "truncated"),
        ("report.csv", "other_format"),
    }
    assert len(letters) == 3
    assert "report.csv:1: other_format: the file looks like CSV" in errors
    assert "1 other_format, 2 truncated" in errors


def test_a_truncated_file_keeps_its_complete_lines(folder: Path) -> None:
    """As 22_truncated.jsonl.gz and 22b_truncated.jsonl.zst of the cases: two lines, and none."""
    lines = [event(n) for n in range(3)]
    packed = gzip.compress(lines[0] + lines[1] + lines[2], 0)
    (folder / "f.gz").write_bytes(packed[:-40])
    code, _, errors = replay(folder, "f.gz")
    assert (code, "events         2\n" in errors) == (1, True), errors
    assert "f.gz:3: truncated: " in errors
    (folder / "f.zst").write_bytes(zstandard.ZstdCompressor().compress(b"".join(lines))[:-3])
    code, _, errors = replay(folder, "f.zst")
    assert (code, "events         0\n" in errors, "f.zst:1: truncated: " in errors) == (1, True, True), errors


def test_two_servers_in_turn(folder: Path) -> None:
    """As 30_server_a.jsonl.gz and 30_server_b.jsonl.gz of the cases: half of the events of an actor in each."""
    others = [event(n * 4, f"N{n % 40}") for n in range(3600)]
    mine = [event(3600 + n / 2, "P1") for n in range(200)]
    both = sorted(others + mine, key=lambda line: str(json.loads(line)["time"]))
    (folder / "merged.jsonl").write_bytes(b"".join(both))
    for name, part in (("a", both[::2]), ("b", both[1::2])):
        (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(b"".join(part)))
    merged = replay(folder, "merged.jsonl")
    code, findings, errors = replay(folder, "b.jsonl.gz", "a.jsonl.gz")
    assert [(one["group"], one["peak"]) for one in findings] == [({"actor": "P1"}, 200)]
    assert (code, errors) == (0, "")
    assert [one | {"id": None} for one in findings] == [one | {"id": None} for one in merged[1]]


@pytest.mark.parametrize("place", [0, 10, 500, 999])
def test_one_event_of_2031_silences_nothing(folder: Path, place: int) -> None:
    lines = [event(n * 60, f"N{n}") for n in range(1000)]
    lines[301:301] = [event(300 * 60 + n / 4, "P1") for n in range(200)]
    lines.insert(place, event(5 * 365 * 86_400 - 86_400, "P9"))
    (folder / "f.jsonl").write_bytes(b"".join(lines))
    code, findings, errors = replay(folder, "f.jsonl", "--stats")
    assert [(one["group"], one["count"]) for one in findings] == [({"actor": "P1"}, 200)]
    assert code == 0
    assert "events         1,201\n" in errors
    assert "late           0\n" in errors


def unsorted(folder: Path) -> None:
    lines = [event(n) for n in range(5000)]
    lines[3000:3010] = [event(n) for n in range(100, 110)]
    (folder / "f.jsonl").write_bytes(b"".join(lines))


def test_late_events_are_told_with_what_to_do(folder: Path) -> None:
    unsorted(folder)
    code, _, errors = replay(folder, "f.jsonl")
    assert code == 0
    assert errors == (
        "0.2 % of the events (10 of 5,000) came too late to count in every window; the largest jump is at "
        "f.jsonl:3001: 49m behind an earlier event; use --allowed-lateness 1h, or sort the file by time\n"
    )
    _, _, errors = replay(folder, "f.jsonl", "--allowed-lateness", "1h")
    assert errors == ""


def test_a_backtest_tells_of_late_and_unread_events(folder: Path) -> None:
    unsorted(folder)
    (folder / "cut.gz").write_bytes(gzip.compress(event(10_000))[:-10])
    arguments = ["--events", "f.jsonl", "--events", "cut.gz", "--rules", "rule.yml"]
    done = custodes("rules", "backtest", "Many reads", *arguments, "--json", cwd=folder)
    assert done.returncode == 1
    result = json.loads(done.stdout)
    assert (result["events"], result["late"], result["rejected"]) == (5000, 10, 1)
    assert result["rejected_by_reason"] == {"truncated": 1}
    assert result["late_warning"].startswith("0.2 % of the events (10 of 5,000) came too late to count")
    (unread,) = result["unread"]
    assert (unread["file"], unread["reason"]) == ("cut.gz", "truncated")
    assert "cut.gz:1: truncated: " in done.stderr.decode()
    assert "came too late to count" in done.stderr.decode()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "no event was counted: the input is empty\n"),
        (b"\n\n", "no event was counted: the input is empty\n"),
        (b'{"time":"2026-06-15T08:00:00Z"}\n', "no event was counted\n"),
    ],
)
def test_nothing_that_could_be_read_is_a_failure(folder: Path, text: bytes, told: str) -> None:
    (folder / "f.jsonl").write_bytes(text)
    code, findings, errors = replay(folder, "f.jsonl")
    assert (code, findings) == (1, [])
    assert errors.endswith(told)


def lines_of(text: str) -> Sequence[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_no_findings_are_told_with_what_was_read(folder: Path) -> None:
    (folder / "f.jsonl").write_bytes(b"".join(event(n * 60) for n in range(60)) + b'{"time":"2026-06-15T08:00:00Z"}\n')
    done = custodes("replay", "f.jsonl", "--rules", "rule.yml", "--output", "table", cwd=folder)
    assert (done.returncode, done.stdout) == (0, b"no findings\n")
    assert lines_of(done.stderr.decode()) == [
        "f.jsonl:61: missing_actor: the event has no actor",
        "files 1",
        "events 60",
        "from 2026-06-15T08:00:00.000Z",
        "to 2026-06-15T08:59:00.000Z",
        "rejected 1 missing_actor",
        "late 0",
        "no access 0",
        "unmatched 0",
        "rules 1, each matched an event",
    ]
    (folder / "f.jsonl").write_bytes(event(0).replace(b'"read"', b'"change"'))
    done = custodes("replay", "f.jsonl", "--rules", "rule.yml", "--output", "table", cwd=folder)
    assert lines_of(done.stderr.decode())[-2:] == ["unmatched 1", "rules 1, no event matched any; check the mapping"]
