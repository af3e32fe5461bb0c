"""Records as real systems write them, each with one difficulty: what `replay` makes of them."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from commands import custodes
from servers import ROOT

SOURCES = ROOT / "tests" / "fixtures" / "sources"
RULES = SOURCES / "rules.yml"


def replayed(*arguments: str | Path) -> tuple[int, dict[str, dict[str, Any]], str]:
    """Returns the exit code, the peak by rule and actor, and the messages of `replay`."""
    done = custodes("replay", *arguments)
    peaks: dict[str, dict[str, Any]] = defaultdict(dict)
    for line in done.stdout.splitlines():
        finding = json.loads(line)
        peaks[finding["rule"]][finding["group"].get("actor")] = finding["peak"]
    return done.returncode, peaks, done.stderr.decode()


@pytest.mark.parametrize(
    ("name", "code", "events", "subjects", "stats"),
    [
        ("05_list_of_objects.jsonl", 0, {"P1": 1}, {"P1": 3}, []),
        ("09_offset_without_colon.jsonl", 0, {"p1": 2}, {}, ["2026-06-15T08:00:00.431Z", "2026-06-15T08:00:01.000Z"]),
        ("11_utf8_bom.jsonl", 0, {"P1": 2}, {"P1": 2}, []),
        (
            "13_empty_first_source.jsonl", 0,
            {"arn:aws:sts::1:assumed-role/Admin/p1": 1}, {"arn:aws:sts::1:assumed-role/Admin/p1": 1}, [],
        ),
        ("15_literal_or_parameter.jsonl", 0, {"P1": 2}, {"P1": 2}, []),
        ("22_truncated.jsonl.gz", 1, {"P1": 2}, {"P1": 2}, ["1 not read to the end", "1 truncated"]),
        ("22b_truncated.jsonl.zst", 1, {}, {}, ["1 not read to the end", "1 truncated"]),
        ("26_lone_surrogate_in_free_text.jsonl", 0, {"P1": 3}, {"P1": 3}, []),
        ("27_null_in_the_list_of_subjects.jsonl", 0, {"P1": 1}, {"P1": 2}, []),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_each_record_is_counted_or_its_loss_is_reported(
    name: str, code: int, events: dict[str, int], subjects: dict[str, int], stats: list[str]
) -> None:
    mapping = SOURCES / f"{name.partition('_')[0]}_mapping.yml"
    own: list[str | Path] = ["--mapping", mapping] if mapping.exists() else []
    returned, peaks, told = replayed(SOURCES / name, *own, "--rules", RULES, "--stats")
    assert (returned, peaks["events"], peaks["subjects"]) == (code, events, subjects)
    assert [text for text in stats if text not in told] == []


def test_a_copy_of_many_rows_is_found_by_the_shipped_rules() -> None:
    code, peaks, _ = replayed(SOURCES / "01_copy_of_1000_rows.jsonl")
    assert (code, peaks["Many records at once"]) == (0, {"P1": 12_441})


def test_files_of_two_servers_are_aligned_by_time() -> None:
    code, peaks, _ = replayed(*sorted(SOURCES.glob("30_server_*.jsonl.gz")))
    assert (code, peaks["Bulk lookups"]["P1"]) == (0, 200)


def test_a_malformed_path_is_a_fault_with_its_line() -> None:
    mapping = SOURCES / "29_mapping_with_a_bad_path.yml"
    done = custodes("replay", SOURCES / "11_utf8_bom.jsonl", "--rules", RULES, "--mapping", mapping)
    assert done.returncode == 2
    assert f"{mapping}:2: 'actor'" in done.stderr.decode()
