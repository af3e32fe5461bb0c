"""The shipped rules have tests that detect every change, and a page with instructions."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from custodes.authoring import find_test_files, run_tests
from custodes.config import FaultsError, format_duration, parse_duration
from custodes.rules import load_rules, shipped_pack
from custodes.rules.model import POINTS

PACK = sorted(shipped_pack())
PAGE = Path(__file__).parents[2] / "docs" / "pack.md"

Documents = list[dict[str, Any]]


def mutations(rules: Documents) -> Iterator[tuple[str, Documents]]:
    """Returns rules with one change each."""
    for at, rule in enumerate(rules):
        changes = _of_correlation if "correlation" in rule else _of_detection
        for what, changed in changes(rule):
            yield f"{rule['title']}: {what}", [*rules[:at], changed, *rules[at + 1 :]]


def _of_detection(rule: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for field, values in rule["detection"]["selection"].items():
        if isinstance(values, list):
            for value in values:
                yield f"without {field} {value}", _with(rule, [v for v in values if v != value], "selection", field)
            yield f"with {field} update", _with(rule, [*values, "update"], "selection", field)
        else:
            others = {name: test for name, test in rule["detection"]["selection"].items() if name != field}
            yield f"without {field}", _with(rule, others, "selection")
    if "service" in rule["detection"]:
        yield "with service accounts", _with(rule, "selection", "condition")
    yield from _of_sieve(rule)


def _of_correlation(rule: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    correlation = rule["correlation"]
    field, bound = correlation["condition"].get("field"), correlation["condition"]["gte"]
    step = POINTS["low"] if field == "points" else 1
    for other in {bound - step, bound + step, bound * 2, bound // 2} - {0, bound}:
        yield f"gte {other}", _with(rule, other, "condition", "gte")
    span = parse_duration(correlation["timespan"])
    for other_span in (span / 2, span * 2):
        yield f"timespan {other_span}", _with(rule, format_duration(other_span), "timespan")
    for group in (["actor"], ["subject"], ["action"], ["actor", "subject"], []):
        if group != correlation["group-by"]:
            yield f"by {group}", _with(rule, group, "group-by")
    for other_field in ("actor", "subject", "action", "time") if field else ():
        # With one value of a field there is one group and one count, so these are equivalent.
        if other_field != field and not (bound == 1 and other_field == "time"):
            yield f"of {other_field}", _with(rule, other_field, "condition", "field")
    if bound > 1 and correlation["type"] != "event_count":
        yield (
            "of events",
            _with({**rule, "correlation": {**correlation, "type": "event_count"}}, {"gte": bound}, "condition"),
        )
    if "baseline" in rule["custodes"]:
        baseline = rule["custodes"]["baseline"]
        yield "no baseline", _without(rule, "baseline")
        for factor in (baseline["factor"] / 1.25, baseline["factor"] * 1.25):
            yield f"factor {factor}", _own(rule, "baseline", {**baseline, "factor": factor})
        for of in {"self", "peers", "both"} - {baseline["of"]}:
            yield f"of {of}", _own(rule, "baseline", {**baseline, "of": of})
        for cold in {baseline.get("cold", 0) - 1, baseline.get("cold", 0) + 1} - {-1, 1}:
            yield f"cold {cold}", _own(rule, "baseline", {**baseline, "cold": cold})
    yield from _of_sieve(rule)


def _of_sieve(rule: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    own = rule.get("custodes", {})
    if "dormant" in own:
        yield "not dormant", _without(rule, "dormant")
        for days in (-2, 2):
            span = parse_duration(own["dormant"]).days + days
            yield f"dormant {span}d", _own(rule, "dormant", f"{span}d")
    if "new" in own:
        yield "not new", _without(rule, "new")
        for key in ("over", "after"):
            for days in (-2, 2):
                span = parse_duration(own["new"][key]).days + days
                yield f"new {key} {span}d", _own(rule, "new", {**own["new"], key: f"{span}d"})


def _with(rule: dict[str, Any], value: Any, *place: str) -> dict[str, Any]:
    changed = copy.deepcopy(rule)
    inner = changed.get("correlation") or changed["detection"]
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return changed


def _own(rule: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    return {**rule, "custodes": {**rule["custodes"], key: value}}


def _without(rule: dict[str, Any], key: str) -> dict[str, Any]:
    return {**rule, "custodes": {name: value for name, value in rule["custodes"].items() if name != key}}


@pytest.mark.parametrize("path", PACK, ids=lambda path: path.stem)
def test_each_rule_file_has_passing_tests_that_detect_every_change(path: Path, tmp_path: Path) -> None:
    tests = path.with_suffix(".test.yml")
    assert [result for result in run_tests(tests) if result.failures] == []
    for one in (tests, *PACK):
        shutil.copy(one, tmp_path)
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


def test_test_files_are_not_loaded_as_rules_and_all_are_found() -> None:
    assert not any(path.name.endswith(".test.yml") for path in PACK)
    assert find_test_files({path.parent for path in PACK}) == [path.with_suffix(".test.yml") for path in PACK]


def test_every_rule_is_described_and_has_a_section_on_the_page() -> None:
    anchors = {
        heading.lower().replace(" ", "-") for heading in re.findall(r"^### (.+)$", PAGE.read_text(), re.MULTILINE)
    }
    for rule in load_rules(PACK):
        assert rule.description, rule.title
        assert rule.false_positives, rule.title
        assert rule.references, rule.title
        assert rule.tuning, rule.title
        assert rule.runbook is not None
        page, _, anchor = rule.runbook.partition("#")
        assert (page, anchor in anchors) == ("docs/pack.md", True), rule.runbook
