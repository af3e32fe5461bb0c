"""The shipped rules have tests that would notice if they were other rules."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from custodes.authoring import find_test_files, run_tests
from custodes.config import FaultsError, format_duration, parse_duration
from custodes.rules import shipped_pack

PACK = sorted(shipped_pack())

Rules = list[dict[str, Any]]


def mutations(rules: Rules) -> Iterator[tuple[str, Rules]]:
    """Other rules, each with one thing changed."""
    for at, rule in enumerate(rules):
        for what, changes in _changes(rule):
            mutated = copy.deepcopy(rules)
            section = mutated[at].get("correlation") or mutated[at]["detection"]["selection"]
            section.update(changes)
            yield f"{rule['title']}: {what}", mutated


def _changes(rule: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    if "correlation" not in rule:
        for field, values in rule["detection"]["selection"].items():
            for value in values:
                yield f"without {field} {value}", {field: [v for v in values if v != value]}
            yield f"with {field} update", {field: [*values, "update"]}
        return
    correlation = rule["correlation"]
    condition, span = correlation["condition"], parse_duration(correlation["timespan"])
    bound = condition["gte"]
    for other in (bound - 1, bound + 1, bound * 2, bound // 2):
        yield f"gte {other}", {"condition": {**condition, "gte": other}}
    for other_span in (span / 2, span * 2):
        yield f"timespan {other_span}", {"timespan": format_duration(other_span)}
    for group in (["actor"], ["subject"], ["action"], ["actor", "subject"], []):
        if group != correlation["group-by"]:
            yield f"by {group}", {"group-by": group}
    for field in ("actor", "subject", "action", "time"):
        if field != condition["field"]:
            yield f"of {field}", {"condition": {**condition, "field": field}}
    yield "of events", {"type": "event_count", "condition": {"gte": bound}}


@pytest.mark.parametrize("path", PACK, ids=lambda path: path.stem)
def test_each_rule_file_has_tests_that_hold_and_notice_every_change(path: Path, tmp_path: Path) -> None:
    tests = path.with_suffix(".test.yml")
    assert [result for result in run_tests(tests) if result.failures] == []
    shutil.copy(tests, tmp_path)
    survivors = []
    for what, rules in mutations(list(yaml.safe_load_all(path.read_text()))):
        (tmp_path / path.name).write_text(yaml.safe_dump_all(rules))
        try:
            noticed = any(result.failures for result in run_tests(tmp_path / tests.name))
        except FaultsError:
            noticed = True
        if not noticed:
            survivors.append(what)
    assert survivors == []


def test_tests_are_no_rules_and_every_test_file_is_found() -> None:
    assert not any(path.name.endswith(".test.yml") for path in PACK)
    assert find_test_files({path.parent for path in PACK}) == [path.with_suffix(".test.yml") for path in PACK]
