"""`custodes replay`: a file through the real command gives exactly the oracle's findings."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import zstandard

import oracle
from commands import custodes

EVENT = '{"time":"2026-01-05T08:00:00Z","actor":"a","action":"read"}'
RULES = """
title: Read
name: read
logsource: {product: custodes}
detection:
    selection: {action: [read, export]}
    filter: {app|startswith: batch}
    condition: selection and not filter
---
title: Many look-ups
id: 11111111-1111-4111-8111-111111111111
level: medium
correlation:
    type: event_count
    rules: [read]
    group-by: [actor, resource]
    timespan: 10m
    condition: {gte: 7}
---
title: Many people
id: 22222222-2222-4222-8222-222222222222
level: high
correlation:
    type: value_count
    rules: [read]
    group-by: [actor]
    timespan: 1h
    condition: {field: subject, gt: 24}
---
title: Watched by many
id: 33333333-3333-4333-8333-333333333333
level: low
correlation:
    type: value_count
    rules: [read]
    group-by: [subject]
    timespan: 24h
    condition: {field: actor, gte: 25}
custodes: {keep_open: 30m}
---
title: Quiet but not silent
id: 44444444-4444-4444-8444-444444444444
level: informational
correlation:
    type: event_count
    rules: [read]
    group-by: [peer_group]
    timespan: 5m
    condition: {lte: 20}
"""


def read(event: Any) -> bool:
    return event["action"] in {"read", "export"} and not event["app"].startswith("batch")


ORACLE_RULES = {
    "11111111-1111-4111-8111-111111111111": oracle.OracleRule(["actor", "resource"], 600, where=read, **oracle.gte(7)),
    "22222222-2222-4222-8222-222222222222": oracle.OracleRule(
        ["actor"], 3600, distinct="subject", resolution=6, where=read, **oracle.gte(25)
    ),
    "33333333-3333-4333-8333-333333333333": oracle.OracleRule(
        ["subject"], 86_400, distinct="actor", resolution=144, keep_open=1800, where=read, **oracle.gte(25)
    ),
    "44444444-4444-4444-8444-444444444444": oracle.OracleRule(
        ["peer_group"], 300, where=read, **oracle.judged("lte", 20)
    ),
}


@pytest.fixture(scope="module")
def events() -> list[dict[str, Any]]:
    """100,000 events over two days, ordered by time, with subjects of every allowed type."""
    rng = random.Random(41)
    start = 1_767_600_000_000_000
    times = sorted(start + rng.randrange(172_800_000) * 1000 for _ in range(100_000))
    events = []
    for time in times:
        person = int(rng.paretovariate(0.6)) % 8000
        actor = int(600 * rng.random() ** 2)
        many = [f"S{(person + n) % 8000}" for n in range(rng.randrange(1, 9))]
        events.append(
            {
                "time": time,
                "actor": f"Ωfficer {actor}",
                "subject": rng.choice([f"S{person}", person, person, many, None, []]),
                "resource": rng.choice(["person.identity", "hotel.checkin"]),
                "action": rng.choice(["read", "read", "export", "change"]),
                "app": rng.choice(["desk", "desk", "Desk", "batch-7"]),
                "peer_group": f"g{actor % 7}",
            }
        )
    return events


@pytest.fixture(scope="module")
def expected(events: list[dict[str, Any]]) -> dict[str, list[oracle.OracleFinding]]:
    found = {rule_id: oracle.findings(events, rule) for rule_id, rule in ORACLE_RULES.items()}
    assert all(len(findings) >= 10 for findings in found.values()), "the stream must be worth counting"
    return found


def write(events: list[dict[str, Any]]) -> bytes:
    rng = random.Random(5)

    def time(micros: int) -> Any:
        """Formats the same instant in different ways."""
        text = datetime.fromtimestamp(micros / 1e6, UTC).isoformat(timespec="milliseconds")
        return rng.choice([text, text.replace("+00:00", "Z"), micros, micros // 1000, micros * 1000])

    return b"".join(json.dumps({**event, "time": time(event["time"])}).encode() + b"\n" for event in events)


def micros(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1e6)


def findings_of(output: bytes) -> dict[str, list[oracle.OracleFinding]]:
    found: dict[str, list[oracle.OracleFinding]] = {rule_id: [] for rule_id in ORACLE_RULES}
    for line in output.splitlines():
        finding = json.loads(line)
        rule = ORACLE_RULES[finding["rule_id"]]
        opened_at = micros(finding["opened_at"])
        found[finding["rule_id"]].append(
            oracle.OracleFinding(
                tuple(finding["group"].values()),
                opened_at // (rule.resolution * 1_000_000),
                opened_at,
                micros(finding["closed_at"]),
                finding["peak"],
                finding["count"],
            )
        )
    return {rule_id: sorted(findings) for rule_id, findings in found.items()}


def replay(tmp_path: Path, text: bytes, *options: str) -> bytes:
    (tmp_path / "rules").mkdir(exist_ok=True)
    (tmp_path / "rules" / "all.yml").write_text(RULES)
    (tmp_path / "events.jsonl").write_bytes(text)
    done = custodes("replay", "events.jsonl", "--rules", "rules", "--output", "ndjson", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_in_order(
    tmp_path: Path, events: list[dict[str, Any]], expected: dict[str, list[oracle.OracleFinding]]
) -> None:
    assert findings_of(replay(tmp_path, write(events))) == expected


@pytest.mark.parametrize("lateness_s", [10, 3600])
def test_out_of_order(
    tmp_path: Path, events: list[dict[str, Any]], expected: dict[str, list[oracle.OracleFinding]], lateness_s: int
) -> None:
    """Any order within the allowed lateness gives the same findings."""
    rng = random.Random(lateness_s)
    arrival = sorted(events, key=lambda event: event["time"] + rng.randrange(lateness_s * 1_000_000))
    assert arrival != events
    output = replay(tmp_path, write(arrival), "--allowed-lateness", f"{lateness_s}s")
    assert findings_of(output) == expected


def test_compressed_files_and_standard_input_give_the_same(tmp_path: Path, events: list[dict[str, Any]]) -> None:
    text = write(events[:20_000])
    plain = replay(tmp_path, text)
    packed = {"events.jsonl.gz": gzip.compress(text[:-1]), "events.zst": zstandard.ZstdCompressor().compress(text)}
    for name, data in packed.items():
        (tmp_path / name).write_bytes(data)
        done = custodes("replay", name, "--rules", "rules", "--output", "ndjson", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, plain)
    done = custodes("replay", "-", "--rules", "rules", "--output", "ndjson", cwd=tmp_path, stdin=text)
    assert (done.returncode, done.stdout) == (0, plain)


def test_any_number_of_threads_gives_the_same_bytes(tmp_path: Path, events: list[dict[str, Any]]) -> None:
    """Out-of-order input with invalid lines; each thread has a part of every block and of the groups."""
    rng = random.Random(6)
    lines = write(sorted(events, key=lambda event: event["time"] + rng.randrange(10_000_000))).splitlines(True)
    for at in range(1000, len(lines), 9000):
        lines.insert(at, b'{"time": 1\n')
    (tmp_path / "events.jsonl").write_bytes(b"".join(lines))
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "rules.yml").write_text(RULES)
    runs = []
    for threads in ("1", "2", "3"):
        options = ("--rules", "rules", "--output", "ndjson", "--threads", threads, "--dead-letters", f"dead-{threads}")
        done = custodes("replay", "events.jsonl", *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        runs.append((done.stdout, done.stderr, (tmp_path / f"dead-{threads}").read_bytes()))
    assert runs[0] == runs[1] == runs[2]
    assert b"events.jsonl:1001: bad_json" in runs[0][1]
    assert len(runs[0][0].splitlines()) > 100


def test_files_are_read_one_after_the_other(tmp_path: Path, events: list[dict[str, Any]]) -> None:
    text = write(events[:2000]).splitlines(keepends=True)
    whole = replay(tmp_path, b"".join(text))
    (tmp_path / "1.jsonl").write_bytes(b"".join(text[:700]))
    (tmp_path / "2.jsonl").write_bytes(b"".join(text[700:]))
    done = custodes("replay", "1.jsonl", "2.jsonl", "--rules", "rules", "--output", "ndjson", cwd=tmp_path)
    assert done.stdout == whole


def test_rejected_lines_are_reported_and_kept(tmp_path: Path) -> None:
    lines = [
        b'{"time":"2026-01-05T08:00:00Z","actor":"a","action":"read","app":"desk"}',
        b"",
        b'{"time":"2026-01-05T08:00:01Z","actor":"a"',
        b'{"time":"2099-01-05T08:00:01Z","actor":"a"}',
        b'{"time":"2026-01-05T08:00:00Z","actor":"b","action":"read","app":"desk"}',
    ]
    text = b"\n".join(lines)
    (tmp_path / "events.jsonl").write_bytes(text)
    done = custodes("replay", "events.jsonl", "--stats", "--dead-letters", "dead.jsonl", cwd=tmp_path)
    assert done.returncode == 0
    errors = done.stderr.decode()
    assert "events.jsonl:3: bad_json: byte " in errors
    assert "events.jsonl:4: time_in_future" in errors
    assert "1 bad_json, 1 time_in_future" in errors
    letters = [json.loads(line) for line in (tmp_path / "dead.jsonl").read_text().splitlines()]
    assert [(letter["file"], letter["position"], letter["reason"]) for letter in letters] == [
        ("events.jsonl", 3, "bad_json"),
        ("events.jsonl", 4, "time_in_future"),
    ]


def test_a_detection_without_correlation_fires(tmp_path: Path) -> None:
    (tmp_path / "rule.yml").write_text(
        "title: Export\nlogsource: {product: custodes}\ndetection:\n"
        "    selection: {action: export}\n    condition: selection\n"
    )
    event = {"time": "2026-01-05T08:00:00Z", "actor": "a", "action": "EXPORT"}
    later = {**event, "time": "2026-01-05T09:30:00Z"}
    text = b"\n".join(json.dumps(e).encode() for e in (event, later, {**event, "action": "read"}))
    done = custodes("replay", "-", "--rules", "rule.yml", cwd=tmp_path, stdin=text)
    (finding,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert finding == {
        "id": finding["id"],
        "rule_id": "Export",
        "rule": "Export",
        "level": "medium",
        "group": {"actor": "a"},
        "opened_at": "2026-01-05T08:00:00.000Z",
        "closed_at": "2026-01-05T10:30:00.000Z",
        "peak": 1,
        "count": 2,
        "threshold": 1,
    }


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    done = custodes("replay", "nowhere.jsonl", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode() == "nowhere.jsonl: no such file\n"


def test_a_replay_imports_only_required_modules() -> None:
    unneeded = {"structlog", "jinja2", "sqlalchemy", "fastapi", "duckdb", "kafka", "cryptography"}
    code = "import sys; from custodes.cli import app; app(standalone_mode=False); print(*sys.modules)"
    arguments = ["replay", "-", "--output", "ndjson"]
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments], input=EVENT, capture_output=True, text=True, check=True
    )
    assert not unneeded & set(run.stdout.split()), "the shipped rules have no pipelines, and no log is written"


def test_garbage_is_collected_while_a_command_runs() -> None:
    at_the_end = "import atexit, gc; atexit.register(lambda: print(gc.isenabled()))"
    code = f"{at_the_end}; from custodes.__main__ import main; main()"
    arguments = ["replay", "-", "--output", "ndjson"]
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments], input=EVENT, capture_output=True, text=True, check=True
    )
    assert run.stdout == "True\n", "starting up turns the collector off for as long as modules are loaded"
