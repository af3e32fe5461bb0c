"""The engine's errors are values: their attributes give the location, and no code reads it from a message."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from custodes._core import Engine, PlanError, RestoreError, TableError, Tables, restore
from custodes.cli import app
from custodes.config.yamldoc import load_documents
from custodes.rules import load_rules, shipped_pack
from custodes.rules.validate import plan_fault

RULE = {"id": "r7", "when": {"all": []}, "group_by": ["actor"], "holds": {"gte": 1}}
TIMES = {"timespan_ms": 60_000, "resolution_ms": 1000, "keep_open_ms": 0}
MAPPING = {"time": ["time"], "actor": ["actor"]}
KEY = "000102030405060708090a0b0c0d0e0f"


def plan(**said: Any) -> str:
    return json.dumps({"mapping": MAPPING, "rules": [], **said})


def refused(text: str) -> PlanError:
    with pytest.raises(PlanError) as raised:
        Engine(text)
    return raised.value


def test_a_plan_error_names_kind_rule_and_field() -> None:
    pattern = {"field": {"name": "app", "test": {"regex": {"pattern": "("}}}}
    region = {"from": ["subject"], "by": {"capture": "("}}
    grouped = {**RULE, **TIMES, "group_by": ["region"]}
    cases = [
        ("{", "schema", None, None),
        (plan(mapping={"time": ["time"]}), "unmapped", None, "actor"),
        (plan(time_zone="Mars/Base"), "time_zone", None, None),
        (plan(fingerprint_key="12"), "key", None, None),
        (plan(share={"partition": 3, "of": 3}), "partition", None, None),
        (plan(rules=[{**RULE, **TIMES, "resolution_ms": 1}]), "rule", "r7", None),
        (plan(rules=[{**RULE, **TIMES, "when": pattern}]), "rule", "r7", "app"),
        (plan(rules=[{**RULE, **TIMES, "group_by": ["a..b"]}]), "path", None, "a..b"),
        (plan(rules=[grouped], derived={"region": region}), "derived", None, "region"),
    ]
    for text, kind, rule, field in cases:
        error = refused(text)
        assert (error.kind, error.rule, error.field) == (kind, rule, field)
        assert error.problem
        assert error.problem in str(error)


def test_a_restore_error_names_its_kind() -> None:
    engine = Engine(plan(fingerprint_key=KEY))
    frame = engine.save_frame()
    other = plan(fingerprint_key="ff" * 16)
    cases = [
        (plan(fingerprint_key=KEY), b"\xff\xff" + frame[2:], "version"),
        (plan(fingerprint_key=KEY), frame[:-1], "damaged"),
        (other, frame, "key"),
    ]
    for text, saved, kind in cases:
        with pytest.raises(RestoreError) as raised:
            restore(text, saved, [])
        assert raised.value.kind == kind
    with pytest.raises(PlanError):
        restore("{", frame, [])
    restored = restore(plan(fingerprint_key=KEY), frame, [])
    assert (restored.dropped.windows, restored.dropped.decisions, restored.dropped.orphans) == ([], [], [])


def test_a_table_error_names_its_line() -> None:
    with pytest.raises(TableError) as raised:
        Tables().put("t", b"a,b\n1,2\n3\n", [None], None, bytes(16))
    assert raised.value.line == 3
    assert str(raised.value) == f"line 3: {raised.value.problem}"


@pytest.mark.parametrize("problem", ["", "no", "rule 'x': field 'y': z", "line 9: 'a'", "字段错误", "field 'app'"])
def test_the_place_of_a_fault_does_not_depend_on_the_message(problem: str, tmp_path: Path) -> None:
    path = tmp_path / "rule.yml"
    path.write_text("title: T\ndetection:\n  one:\n    resource: a\n    app|re: (\n  condition: one\n")
    document = load_documents(path)[0]
    error = PlanError(problem)
    error.kind, error.rule, error.field, error.problem = "rule", "r7", "app", problem
    fault = plan_fault(error, document)
    assert (fault.file, fault.line) == (str(path), 5)
    assert problem in fault.message
    error.field = None
    assert plan_fault(error, document).line == document.fault("").line


CHECKED_RULES = """\
title: Good
logsource: {product: custodes}
detection:
  one:
    resource: a
  condition: one
---
title: Bad pattern
name: bad
logsource: {product: custodes}
detection:
  one:
    resource: a
    app|re: \\p{Nowhere}
  condition: one
---
title: Counts the bad pattern
correlation: {type: event_count, rules: [bad], group-by: [actor], timespan: 1h, condition: {gte: 2}}
---
title: Bad keyword
logsource: {product: custodes}
detection:
  keywords:
    - '|re': (
  condition: keywords
---
title: Bad group
name: grouped
correlation:
  type: event_count
  rules: [fine]
  group-by: [actor..id]
  timespan: 1h
  condition: {gte: 2}
---
title: Fine
name: fine
logsource: {product: custodes}
detection:
  one:
    resource: b
  condition: one
"""
CHECKED_MAPPING = """\
time: time
actor: actor
office: {from: actor, slice: [0, 2]}
region:
  from: subject
  capture: (
"""


def engine_with_messages(word: Callable[[str], str], started: list[str]) -> Callable[[str], Engine]:
    """Returns a constructor of engines whose error messages are reworded, and which notes each plan in ``started``."""

    def start(plan: str) -> Engine:
        started.append(plan)
        try:
            return Engine(plan)
        except PlanError as error:
            reworded = PlanError(word(str(error)))
            reworded.kind, reworded.rule, reworded.field = error.kind, error.rule, error.field
            reworded.problem = word(error.problem)
            raise reworded from error

    return start


@pytest.mark.parametrize("message", [None, "", "no", "rule 'Good': field 'office': no", "字段错误", "line 9: 'a'"])
def test_check_reports_file_and_line_with_any_engine_message(
    message: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def word(text: str) -> str:
        return text if message is None else message

    (tmp_path / "events.jsonl").write_text("")
    (tmp_path / "rules.yml").write_text(CHECKED_RULES)
    (tmp_path / "mapping.yml").write_text(CHECKED_MAPPING)
    (tmp_path / "custodes.yaml").write_text(
        "source: {file: {paths: [events.jsonl]}}\nrules: [rules.yml]\nmapping: mapping.yml\n"
    )
    engine = engine_with_messages(word, [])
    monkeypatch.setattr("custodes.rules.validate.Engine", engine)
    monkeypatch.setattr("custodes.config.mapping.Engine", engine)
    monkeypatch.chdir(tmp_path)
    checked = CliRunner().invoke(app, ["check", "-c", "custodes.yaml", "--json"])
    assert checked.exit_code == 2
    places = {(Path(fault["file"]).name, fault["line"]) for fault in json.loads(checked.stdout)}
    assert places == {("mapping.yml", 4), ("rules.yml", 14), ("rules.yml", 22), ("rules.yml", 32)}


def test_a_sound_rule_set_takes_one_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr("custodes.rules.validate.Engine", engine_with_messages(str, started))
    assert load_rules(shipped_pack())
    assert len(started) == 1
