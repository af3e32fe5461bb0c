"""Parts of rules that bind nothing are faults with file and line; malformed metadata is a warning."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from custodes._core import Engine
from custodes.config.mapping import load_mapping
from custodes.rules import build_plan, load_rules, read_rules
from faults import faults_of

CASES = Path(__file__).parents[1] / "fixtures" / "rules"

DETECTION = """\
title: Reads
name: reads
logsource: {product: custodes}
detection:
  selection: {action: read}
  condition: selection
"""
OTHER = """\
title: Exports
name: exports
logsource: {product: custodes}
detection: {selection: {action: export}, condition: selection}
"""
COUNT = """\
title: Many reads
name: many
correlation:
  type: event_count
  rules: [reads]
  group-by: [actor]
  timespan: 1h
  condition: {gte: 3}
"""
TEMPORAL = """\
title: Both
correlation:
  type: temporal
  rules: [reads, exports]
  group-by: [actor]
  timespan: 1h
"""
FILTER = """\
title: Not by services
logsource: {product: custodes}
filter:
  rules: [reads]
  selection: {actor|startswith: svc-}
  condition: not selection
"""


def written(folder: Path, *documents: str) -> Path:
    path = folder / "rules.yml"
    path.write_text("---\n".join(documents))
    return path


@pytest.mark.parametrize(
    ("name", "faults"),
    [
        ("crashes/AttributeError-fields.py-25.yml", ["7: 'vars' must be a mapping"]),
        ("crashes/SigmaTypeError-logsource.py-73.yml", ["7: 'logsource' is empty"]),
        ("crashes/TypeError-faults.py-46.yml", ["21: the key null is not a text"]),
        ("crashes/TypeError-filters.py-261.yml", ["5: the key 5 is not a text"]),
        ("crashes/TypeError-placeholder.py-124.yml", ["11: 'detection.condition' must be a text", "8: 'vars' must be"]),
        ("faults/misspelt-group-by.yml", ["13: unknown key 'correlation.group_by' (did you mean 'group-by'?)"]),
        ("faults/correlation-empty-rules.yml", ["12: 'correlation.rules' is empty"]),
        (
            "faults/filter-names-no-rule.yml",
            [
                "11: no rule '2a3a4a58-7f0d-4c33-8f10-3a0fd6f4b1O2' "
                "(did you mean '2a3a4a58-7f0d-4c33-8f10-3a0fd6f4b102'?)"
            ],
        ),
        ("faults/filter-of-a-correlation.yml", ["13: 'many' is a correlation, and filters apply to detections"]),
        ("faults/filter-no-logsource.yml", ["8: a filter must have a log source"]),
        ("faults/ordered-same-rule-twice.yml", ["12: 'exports' is in 'correlation.rules' twice"]),
    ],
)
def test_reported_cases(name: str, faults: list[str]) -> None:
    found = faults_of(CASES / name)
    assert [line for line, start in zip(found, faults, strict=False) if line.startswith(f"{CASES / name}:{start}")] == [
        *found[: len(faults)]
    ]


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("level", "levl", "1: unknown key 'levl' (did you mean 'level'?)"),
        ("level", "custdoes", "1: unknown key 'custdoes' (did you mean 'custodes'?)"),
        ("level", "rating", "1: unknown key 'rating' (keys of your own begin with 'x-')"),
        ("level", "correlation", "1: 'detection' and 'correlation' must be separate documents"),
        ("level", "filter", "1: 'detection' and 'filter' must be separate documents"),
        ("level", "transformation", "1: unknown key 'transformation' (keys of your own begin with 'x-')"),
        ("level", "5", "1: the key 5 is not a text (write it in quotes)"),
        ("level: low", "action: global", "1: 'action' documents are Sigma's old collections"),
        ("level: low", "level: lowest", "1: 'lowest' is not a valid Sigma rule level"),
        ("level: low", "generate: 'no'", "1: 'generate' must be true or false"),
        ("level: low", "custodes: []", "1: 'custodes' must be a mapping"),
        ("level: low", "custodes: {keepopen: 1h}", "1: unknown key 'custodes.keepopen' (did you mean 'keep_open'?)"),
        ("level: low", "custodes: {runbook: [a]}", "1: 'custodes.runbook' must be a text that is not empty"),
        ("title: Reads", "title: ' '", "2: 'title' must be a text that is not empty"),
        ("title: Reads", "description: x", "1: a rule must have a title"),
        ("name: reads", "name: 5", "3: 'name' must be a text that is not empty"),
        ("product: custodes", "products: custodes", "4: unknown key 'logsource.products' (did you mean 'product'?)"),
        ("product: custodes", "product: 5", "4: 'logsource.product' must be a text that is not empty"),
        ("{product: custodes}", "custodes", "4: 'logsource' must be a mapping"),
        ("logsource: {product: custodes}", "status: test", "1: a detection must have a log source"),
        ("detection:", "detecton:", "5: unknown key 'detecton' (did you mean 'detection'?)"),
        ("{action: read}", "{}", "6: 'detection.selection' is empty"),
        ("{action: read}", "[]", "6: 'detection.selection' is empty"),
        ("{action: read}", "''", "6: 'detection.selection' must be a mapping of fields to values, or a keyword"),
        ("{action: read}", "null", "6: 'detection.selection' must be a mapping of fields to values, or a keyword"),
        (
            "{action: read}",
            "[a, '']",
            "6: 'detection.selection[1]' must be a mapping of fields to values, or",
        ),
        ("{action: read}", "[{}]", "6: 'detection.selection[0]' is empty"),
        ("{action: read}", "{action: []}", "6: 'action' is an empty list, which no event matches"),
        ("{action: read}", "{action: {a: b}}", "6: 'action' must be a text, a number, true, false or null"),
        ("{action: read}", "{action: [[a]]}", "6: 'action' must be a text, a number, true, false or null"),
        ("{action: read}", "{actor: ''}", "6: no event matches 'actor': 'actor' is never empty"),
        ("{action: read}", "{time: ''}", "6: no event matches 'time': 'time' is never empty"),
        ("{action: read}", "{action|contains: ''}", "6: 'action|contains' is an empty text"),
        ("{action: read}", "{action|startswith: [a, '']}", "6: 'action|startswith' is an empty text"),
        ("{action: read}", "{action|re: ''}", "6: 'action|re' is an empty text"),
        ("{action: read}", "{action|fieldref: ''}", "6: 'action|fieldref' is an empty text"),
        ("{action: read}", "{n|gte: 5, n|lte: 3}", "6: no event matches: the comparisons of 'n' exclude each other"),
        ("{action: read}", "{n|gt: 5, n|lte: 5}", "6: no event matches: the comparisons of 'n' exclude each other"),
        (
            "{action: read}",
            "{time|hour|gte: 22, time|hour|lt: 6}",
            "6: no event matches: the comparisons of 'time|hour' exclude each other (combine two selections with 'or')",
        ),
        ("{action: read}", "{time|hour: 24}", "6: no event matches 'time|hour': hour is from 0 to 23"),
        ("{action: read}", "{time|hour|gt: 23}", "6: no event matches 'time|hour|gt': hour is from 0 to 23"),
        ("{action: read}", "{time|month|lt: 1}", "6: no event matches 'time|month|lt': month is from 1 to 12"),
        ("{action: read}", "{time|hour: 8.5}", "6: 'time|hour' must be a whole number"),
        ("{action: read}", "{time|hour|gte: '8'}", "6: 'time|hour|gte' must be a whole number"),
        ("{action: read}", "{5: read}", "6: the key 5 is not a text (write it in quotes)"),
        ("condition: selection", "timeframe: 5m\n  condition: selection", "7: 'timeframe' is of Sigma's old"),
        ("condition: selection", "condition: ''", "7: 'detection.condition' must be a text that is not empty"),
        ("condition: selection", "condition: []", "7: 'detection.condition' is empty"),
        ("  condition: selection", "  conditon: selection", "5: 'detection' has no condition"),
        ("  selection: {action: read}\n", "", "5: 'detection' has no selection"),
    ],
)
def test_a_detection_that_binds_nothing(tmp_path: Path, before: str, after: str, fault: str) -> None:
    text = "level: low\n" + DETECTION
    assert before in text
    path = written(tmp_path, text.replace(before, after, 1))
    assert faults_of(path)[0].startswith(f"{path}:{fault}")


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("  rules: [reads]\n", "", "10: the correlation names no rules"),
        ("rules: [reads]", "rules:", "12: 'correlation.rules' must be a text that is not empty"),
        ("rules: [reads]", "rules: []", "12: 'correlation.rules' is empty"),
        ("rules: [reads]", "rules: ['']", "12: 'correlation.rules[0]' must be a text that is not empty"),
        ("rules: [reads]", "rules: [reads, reads]", "12: 'reads' is in 'correlation.rules' twice"),
        ("group-by: [actor]", "group_by: [actor]", "13: unknown key 'correlation.group_by' (did you mean 'group-by'?)"),
        ("group-by: [actor]", "group-by: []", "13: 'correlation.group-by' is empty"),
        ("group-by: [actor]", "group-by: [actor, actor]", "13: 'actor' is in 'correlation.group-by' twice"),
        ("group-by: [actor]", "aliases: {who: {reads: actor}}", "13: the alias 'who' has no effect"),
        ("group-by: [actor]", "aliases: {}", "13: 'correlation.aliases' is empty"),
        ("timespan: 1h", "timespan: 999999999999999999y", "14: timespan is longer than ten years"),
        ("timespan: 1h", "timeframe: 1h", "14: unknown key 'correlation.timeframe'"),
        ("{gte: 3}", "{get: 3}", "15: unknown key 'correlation.condition.get' (did you mean 'gt'?)"),
        ("{gte: 3}", "{}", "15: the condition has no bound"),
        ("{gte: 3}", "{gte: .inf}", "15: 'gte' must be a number"),
        ("{gte: 3}", "{gte: true}", "15: 'gte' must be a whole number"),
        ("{gte: 3}", "{gte: 5, lte: 3}", "15: the condition can never hold: no count is gte 5 and lte 3"),
        ("{gte: 3}", "{gt: 4, lt: 5}", "15: the condition can never hold: no count is gt 4 and lt 5"),
        ("{gte: 3}", "{eq: 5, neq: 5}", "15: the condition can never hold: no count is eq 5 and neq 5"),
        ("{gte: 3}", "{lt: 1}", "15: the condition can never hold: no count is lt 1"),
        ("{gte: 3}", "{gte: 3, field: subject}", "15: 'field' has no effect: event_count counts no values"),
        ("{gte: 3}", "{gte: 3, percentile: 5}", "15: 'percentile' has no effect in event_count"),
        ("title: Many", "logsource: {product: x}\ntitle: Many", "8: 'logsource' has no effect in a correlation"),
        ("title: Many", "custodes: {dormnt: 1d}\ntitle: Many", "8: unknown key 'custodes.dormnt'"),
    ],
)
def test_a_correlation_that_binds_nothing(tmp_path: Path, before: str, after: str, fault: str) -> None:
    assert before in COUNT
    path = written(tmp_path, DETECTION, COUNT.replace(before, after, 1))
    assert f"{path}:{fault}" in [line[: len(f"{path}:{fault}")] for line in faults_of(path)]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("condition: {gte: 3}", "the condition can never hold: no count is gte 3, which is at most 2"),
        ("condition: {gte: 2, lt: 2}", "the condition can never hold: no count is gte 2 and lt 2, which is at most 2"),
        ("condition: {gte: 1, field: subject}", "'field' has no effect: temporal counts no values"),
    ],
)
def test_a_temporal_correlation_that_never_fires(tmp_path: Path, change: str, fault: str) -> None:
    path = written(tmp_path, DETECTION, OTHER, f"{TEMPORAL}  {change}\n")
    assert [line.partition(" (")[0] for line in faults_of(path)] == [f"{path}:19: {fault}"]


@pytest.mark.parametrize("kind", ["temporal", "temporal_ordered", "event_count"])
def test_a_rule_listed_by_name_and_by_id_is_listed_twice(tmp_path: Path, kind: str) -> None:
    id_ = "2a3a4a58-7f0d-4c33-8f10-3a0fd6f4b102"
    twice = COUNT.replace("[reads]", f"[reads, {id_}]").replace("event_count", kind)
    path = written(tmp_path, DETECTION.replace("name: reads", f"name: reads\nid: {id_}"), twice)
    assert faults_of(path) == [f"{path}:13: the rule '{id_}' is listed twice"]


def test_keys_that_change_counting_have_no_effect_in_a_detection_that_only_correlations_count(tmp_path: Path) -> None:
    path = written(tmp_path, DETECTION + "custodes: {dormant: 30d}\n", COUNT)
    fault = "'dormant' has no effect: the rule has no findings of its own (write it in the correlation)"
    assert faults_of(path) == [f"{path}:7: {fault}"]
    assert load_rules([written(tmp_path, DETECTION + "custodes: {tuning: as you like}\n", COUNT)])


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("[reads]", "[raeds]", "11: no rule 'raeds' (did you mean 'reads'?)"),
        ("[reads]", "[reads, Reads]", "11: no rule 'Reads' (did you mean 'reads'?)"),
        ("[reads]", "[]", "11: 'filter.rules' is empty"),
        ("[reads]", "[reads, reads]", "11: 'reads' is in 'filter.rules' twice"),
        ("[reads]", "5", "11: 'filter.rules' must be a text that is not empty"),
        ("  rules: [reads]\n", "", "10: a filter must have 'rules'"),
        ("product: custodes", "product: windows", "9: the log source of the filter does not include that of 'reads'"),
        ("{product: custodes}", "{}", "9: 'logsource' is empty"),
        ("logsource: {product: custodes}\n", "", "8: a filter must have a log source"),
        ("not selection", "not selektion", "13: Detection 'selektion' not defined in detections"),
        ("{actor|startswith: svc-}", "{}", "12: 'filter.selection' is empty"),
        ("{actor|startswith: svc-}", "{actor: ''}", "12: no event matches 'actor'"),
        ("  condition: not selection\n", "", "10: 'filter' has no condition"),
        ("title: Not", "custodes: {keep_open: 1h}\ntitle: Not", "8: 'custodes' has no effect in a filter"),
    ],
)
def test_a_filter_without_effect(tmp_path: Path, before: str, after: str, fault: str) -> None:
    assert before in FILTER
    path = written(tmp_path, DETECTION, FILTER.replace(before, after, 1))
    assert f"{path}:{fault}" in [line[: len(f"{path}:{fault}")] for line in faults_of(path)]


def test_a_filter_of_any_rule_needs_one_with_its_log_source(tmp_path: Path) -> None:
    filter_ = FILTER.replace("[reads]", "any")
    assert load_rules([written(tmp_path, DETECTION, filter_)])
    path = written(tmp_path, DETECTION, filter_.replace("product: custodes", "product: windows"))
    assert faults_of(path) == [f"{path}:9: the filter has no effect: no detection has this log source"]


def test_a_filter_of_a_rule_with_a_fault_has_no_fault_of_its_own(tmp_path: Path) -> None:
    path = written(tmp_path, DETECTION.replace("action: read", "action: []"), FILTER)
    assert len(faults_of(path)) == 1


def test_a_filter_is_no_rule_to_refer_to(tmp_path: Path) -> None:
    named = FILTER.replace("title: Not", "name: not_services\ntitle: Not")
    path = written(tmp_path, DETECTION, named, COUNT.replace("[reads]", "[not_services]"))
    assert f"{path}:20: no rule 'not_services'" in [line.partition(" (")[0] for line in faults_of(path)]
    path = written(tmp_path, DETECTION, named, FILTER.replace("[reads]", "[not_services]"))
    assert f"{path}:19: no rule 'not_services'" in [line.partition(" (")[0] for line in faults_of(path)]


def test_metadata_of_the_specification_and_custom_keys_load(tmp_path: Path) -> None:
    metadata = """\
id: 2a3a4a58-7f0d-4c33-8f10-3a0fd6f4b102
related: [{id: 2a3a4a58-7f0d-4c33-8f10-3a0fd6f4b103, type: similar}]
taxonomy: sigma
status: experimental
description: d
license: MIT
author: a
references: [https://example.org]
date: 2026-01-31
modified: 2026/2/1
tags: [attack.t1005, cve.2026-1234]
scope: [server]
fields: [actor]
falsepositives: [backups]
level: high
custom_attributes: {team: red}
regression_tests_path: tests/x
x-ticket: {id: 5}
"""
    loaded = read_rules([written(tmp_path, metadata + DETECTION)])
    assert loaded.warnings == []
    assert [(rule.id, rule.level) for rule in loaded.rules] == [("2a3a4a58-7f0d-4c33-8f10-3a0fd6f4b102", "high")]


@pytest.mark.parametrize(
    ("metadata", "warning"),
    [
        ("id: rule-17", "the id should be a UUID"),
        ("id: 17", "the id should be a UUID"),
        ("id: [a]", "the id should be a UUID"),
        ("tags: [attack.t1005, bad]", "the tag 'bad' has no namespace (a tag is like attack.t1005)"),
        ("tags: attack.t1005", "'tags' should be a list"),
        ("tags: [{a: b}]", "'tags[0]' should be a text"),
        ("references: a page", "'references' should be a list"),
        ("references: [5]", "'references[0]' should be a text"),
        ("falsepositives: {a: b}", "'falsepositives' should be a list"),
        ("date: 2026-02-30", "'date' should be a date, like 2026-01-31"),
        ("date: yesterday", "'date' should be a date, like 2026-01-31"),
        ("modified: 5", "'modified' should be a date, like 2026-01-31"),
        ("status: testing", "unknown status (did you mean 'test'?)"),
        ("related: {id: a}", "'related' should be a list of an id and a type"),
        ("related: [{id: x, type: similar}]", "'related' should be a list of an id and a type"),
        ("author: [a, b]", "'author' should be a text"),
        ("description: 5", "'description' should be a text"),
        ("license: []", "'license' should be a text"),
        ("taxonomy: ''", "'taxonomy' should be a text"),
        ("scope: server", "'scope' should be a list"),
        ("fields: actor", "'fields' should be a list"),
    ],
)
def test_malformed_metadata_is_a_warning(tmp_path: Path, metadata: str, warning: str) -> None:
    path = written(tmp_path, f"{metadata}\n{DETECTION}", COUNT)
    loaded = read_rules([path])
    assert [rule.title for rule in loaded.rules] == ["Many reads"]
    assert len(loaded.warnings) == 1
    assert str(loaded.warnings[0]).startswith(f"{path}:1: {warning}")


@pytest.mark.parametrize(("id_", "reference"), [("rule-17", "rule-17"), ("17", "'17'")])
def test_an_id_that_is_no_uuid_identifies_a_rule(tmp_path: Path, id_: str, reference: str) -> None:
    correlation = COUNT.replace("[reads]", f"[{reference}]")
    assert load_rules([written(tmp_path, f"id: {id_}\n{DETECTION}", correlation)])
    (rule,) = load_rules([written(tmp_path, f"id: {id_}\n{DETECTION}")])
    assert rule.id == id_


def test_references_by_id_in_any_form_of_a_uuid(tmp_path: Path) -> None:
    id_ = "2A3A4A58-7F0D-4C33-8F10-3A0FD6F4B102"
    correlation = COUNT.replace("[reads]", f"[{id_.replace('-', '')}]")
    filter_ = FILTER.replace("[reads]", f"[{id_.lower()}]")
    (rule,) = load_rules([written(tmp_path, f"id: {id_}\n{DETECTION}", correlation, filter_)])
    assert (rule.title, "svc-" in json.dumps(rule.when)) == ("Many reads", True)


def test_a_selection_that_no_condition_uses_is_a_warning(tmp_path: Path) -> None:
    selections = "  filter_own: {app: desk}\n  filter_other: {app: web}\n  condition: selection and not 1 of filtr_*"
    path = written(tmp_path, DETECTION.replace("  condition: selection", selections.replace("filtr_*", "filter_ow*")))
    assert [str(warning) for warning in read_rules([path]).warnings] == [
        f"{path}:7: the condition does not use 'filter_other'"
    ]


@pytest.mark.parametrize(
    ("comparison", "zone", "expected"),
    [
        ("time|hour|gte: 20", "UTC", ["late", "late in numbers"]),
        ("time|hour|lt: 20", "UTC", ["early", "early in numbers"]),
        ("time|hour|gte: 20", "Asia/Shanghai", []),
        ("time|hour|lte: 5", "Asia/Shanghai", ["late", "late in numbers"]),
        ("time|hour|gt: 7", "Asia/Shanghai", ["early", "early in numbers"]),
        ("time|hour|neq: 21", "UTC", ["early", "early in numbers"]),
        ("time|minute|gte: 30", "UTC", ["late", "late in numbers"]),
        ("time|day|gt: 4", "UTC", ["early", "early in numbers", "late", "late in numbers"]),
        ("time|day|gt: 5", "Asia/Shanghai", ["late", "late in numbers"]),
        ("time|week|lte: 2", "UTC", ["early", "early in numbers", "late", "late in numbers"]),
        ("time|month|gte: 2", "UTC", []),
        ("time|year|lt: 2027", "UTC", ["early", "early in numbers", "late", "late in numbers"]),
        ("seen.at|hour|gte: 20", "UTC", ["late", "late in numbers"]),
        ("time|hour|gte: 5, time|hour|lte: 6", "Asia/Shanghai", ["late", "late in numbers"]),
    ],
)
def test_compared_parts_of_a_time(tmp_path: Path, comparison: str, zone: str, expected: list[str]) -> None:
    times = {
        "early": "2026-01-05T00:00:00Z",
        "early in numbers": 1767571200,
        "late": "2026-01-05T21:30:00Z",
        "late in numbers": 1767648600,
    }
    path = written(tmp_path, DETECTION.replace("{action: read}", f"{{{comparison}}}"))
    engine = Engine(build_plan(load_rules([path]), load_mapping("custodes", zone)))
    events = [{"time": time, "actor": actor, "seen": {"at": time}} for actor, time in times.items()]
    outcome = engine.process_lines(b"\n".join(json.dumps(event).encode() for event in events))
    assert sorted({change.group[0] for change in outcome.changes}) == expected


def test_reported_comparisons_of_hours() -> None:
    rules = load_rules([CASES / "faults" / "hour-gte.yml"])
    for events, expected in (("hour-gte", [["night-owl"]]), ("hour-gte-epoch", [])):
        engine = Engine(build_plan(rules, load_mapping("custodes")))
        outcome = engine.process_lines((CASES / "faults" / f"{events}.jsonl").read_bytes())
        assert (outcome.events, [change.group for change in outcome.changes]) == (1, expected)


def test_a_file_without_rules_is_a_warning_and_no_rules_at_all_are_a_fault(tmp_path: Path) -> None:
    written(tmp_path, DETECTION)
    empty = tmp_path / "second.yml"
    empty.write_text("# nothing\n")
    assert [str(warning) for warning in read_rules([tmp_path]).warnings] == [f"{empty}:1: no rules in this file"]
    assert faults_of(empty) == [f"{empty}:1: no rules in this file"]
