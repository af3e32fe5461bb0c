"""`custodes rules`: lists of rules and rule tests, for users and pipelines."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from servers import CUSTODES

RULES = """\
title: Any look
name: any_look
level: low
logsource: {product: custodes}
detection: {selection: {action: read}, condition: selection}
custodes: {resolution: 1s}
"""


PLAIN = """\
title: Bulk lookups
correlation:
  type: value_count
  rules: [access]
  group-by: [actor]
  timespan: 1h
  condition: {field: subject, gte: 150}
---
title: Access
name: access
logsource: {product: custodes}
detection: {selection: {action: [read, search, export]}, condition: selection}
"""


def run(*arguments: str | Path) -> tuple[int, str, str]:
    done = subprocess.run([CUSTODES, "rules", *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def rule_tests(folder: Path, text: str) -> Path:
    (folder / "look.yml").write_text(RULES)
    path = folder / "look.test.yml"
    path.write_text(text)
    return path


def test_the_shipped_rules_are_listed_and_pass_their_tests() -> None:
    code, out, _ = run("list")
    assert code == 0
    assert "Bulk lookups" in out
    assert "gte 120" in out
    code, out, _ = run("list", "--json")
    listed = {rule["title"]: rule for rule in json.loads(out)}
    assert (listed["Slow copying"]["timespan"], listed["Slow copying"]["condition"]) == ("1w", {"gte": 75})
    code, out, _ = run("test")
    assert (code, re.fullmatch(r"2\d\d tests passed", out.splitlines()[-1]) is not None) == (0, True)


def test_the_output_of_a_failing_test(tmp_path: Path) -> None:
    path = rule_tests(
        tmp_path,
        """\
rules: [look.yml]
tests:
  - name: as it should be
    events:
      - {event: {actor: A, action: read}, at: 5s, times: 3, every: 1m}
    findings:
      - {rule: Any look, group: {actor: A}, opened: 5s, peak: 3, count: 3}
  - name: wrong in every way
    events:
      - {event: {actor: "A{n}", action: read}, times: 2, every: 1m}
      - {event: {action: read}}
    findings:
      - {rule: any_look, group: {actor: A0}, opened: 1m, peak: 2}
      - {rule: Any look, group: {actor: nobody}}
""",
    )
    code, out, err = run("test", path)
    assert (code, err) == (1, "")
    assert out.splitlines() == [
        str(path),
        "  ok    as it should be",
        "  FAIL  wrong in every way",
        f"        {path}:8: an event was rejected: missing_actor: the event has no actor",
        f"        {path}:8: Any look, actor A0: opened after 0s, expected 1m",
        f"        {path}:8: Any look, actor A0: peak is 1, expected 2",
        f"        {path}:8: not found: Any look, actor nobody",
        f"        {path}:8: not expected: Any look, actor A1, opened 1m in, peak 1",
        "2 tests, 1 failed",
    ]
    code, out, _ = run("test", tmp_path, "--json")
    assert code == 1
    assert [(result["line"], len(result["failures"])) for result in json.loads(out)] == [(3, 0), (8, 5)]


def test_faults_in_a_test_file_have_lines(tmp_path: Path) -> None:
    path = rule_tests(
        tmp_path,
        """\
rules: [look.yml]
tests:
  - name: a typing error
    event:
      - {event: {actor: A, action: read}}
    events:
      - {event: {actor: A, action: read}, each: 1m}
    findings: []
""",
    )
    code, _, err = run("test", path)
    assert code == 2
    assert err.splitlines() == [
        f"{path}:7: unknown key 'tests.0.events.0.each' (known: at, event, every, late, times)",
        f"{path}:4: unknown key 'tests.0.event' (did you mean 'events'?)",
    ]
    path.write_text(path.read_text().replace("    event:\n      - {event: {actor: A, action: read}}\n", "")
                    .replace(", each: 1m", "").replace("[]", "[{rule: Any lock, group: {}}]"))  # fmt: skip
    code, _, err = run("test", path)
    assert (code, err) == (2, f"{path}:6: no rule 'Any lock' (did you mean 'Any look'?)\n")
    (tmp_path / "empty").mkdir()
    code, _, err = run("test", tmp_path / "empty")
    assert (code, err) == (2, f"{tmp_path / 'empty'}: no test files (*.test.yml) in this directory\n")


def test_the_time_field_follows_the_mapping(tmp_path: Path) -> None:
    (tmp_path / "map.yml").write_text("time: at.when\nactor: who[0]\naction: '=read'\n")
    path = rule_tests(
        tmp_path,
        """\
rules: [look.yml]
mapping: map.yml
tests:
  - name: events of another shape
    start: 2026-03-01T12:00:00+08:00
    events:
      - {event: {at: {when: "{time}"}, who: ["P{n}"]}, times: 2, every: 1h}
    findings:
      - {rule: Any look, group: {actor: P0}, opened: 0s}
      - {rule: Any look, group: {actor: P1}, opened: 1h}
""",
    )
    code, out, err = run("test", path)
    assert (code, err, out.splitlines()[-1]) == (0, "", "1 tests passed")


def test_a_backtest_lists_the_findings_of_a_rule(tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    looks = [
        {"time": f"2026-01-{5 + day:02}T09:{n:02}:00Z", "actor": f"P{actor}", "subject": f"S{n}", "action": "read"}
        for day in range(8)
        for actor in range(3)
        for n in range(10 * (actor + 1) + day)
    ]
    looks.sort(key=lambda event: event["time"])
    events.write_text("".join(json.dumps(event) + "\n" for event in [*looks, {"actor": "no time"}]))
    labels = tmp_path / "labels.jsonl"
    taken = [event["time"] for event in looks if event["actor"] == "P2"]
    labels.write_text(
        json.dumps({"kind": "a thief", "group": {"actor": "P2"}, "times": taken}) + "\n"
        + json.dumps({"kind": "nobody", "group": {"actor": "P9"}, "times": taken}) + "\n"
    )  # fmt: skip
    rules = tmp_path / "plain.yml"
    rules.write_text(PLAIN)
    asked: list[str | Path] = [
        "backtest",
        "Bulk lookups",
        "--rules",
        rules,
        "--events",
        events,
        "--labels",
        labels,
        "--budget",
        "6",
    ]
    code, out, err = run(*asked)
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == "Bulk lookups: 564 events over 1.0 weeks, 1 rejected"
    assert lines[1] == "threshold findings a week groups"
    assert "150 0 0.0 0 the rule's own" in lines
    assert [line for line in lines if line.endswith("suggested")] == ["32 6 6.0 1 suggested"]
    assert lines[-2:] == [
        "a thief (actor P2): missed, with 268 of 268 records",
        "nobody (actor P9): missed, with 268 of 268 records",
    ]
    code, out, _ = run(*asked, "--json")
    told = json.loads(out)
    assert (told["own"]["threshold"], told["suggested"]["threshold"], told["findings"]) == (150, 32, [])
    assert told["labels"][0] == {
        "kind": "a thief",
        "group": {"actor": "P2"},
        "found_at": None,
        "taken": 268,
        "records": 268,
    }
    for wrong, said in (
        (["Bulk lookup", "--events", events], "no rule 'Bulk lookup' (did you mean 'Bulk lookups'?)\n"),
        (["Bulk lookups", "--events", "-"], "--events: events are read more than once; give files\n"),
        (["Bulk lookups", "--events", "none.jsonl"], "none.jsonl: no such file\n"),
    ):
        assert run("backtest", *wrong) == (2, "", said)


def test_an_explanation_covers_each_event(tmp_path: Path) -> None:
    event = tmp_path / "event.jsonl"
    event.write_text('{"time":1767600000,"actor":"P1","subject":["S1","S2"],"action":"Search"}\n\n{"actor":"P1"}\n')
    rules = tmp_path / "plain.yml"
    rules.write_text(PLAIN)
    code, out, err = run("explain", "Bulk lookups", "--rules", rules, "--event", event)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "event 1 counts for Bulk lookups",
        "  ✓ any of",
        "    ✗ action is read  (search)",
        "    ✓ action is search  (search)",
        "    ✗ action is export  (search)",
        "  for each actor: P1",
        "  counts distinct subject: S1, S2",
        "  within 1h fires at gte 150",
        "event 2 does not count for Bulk lookups",
        "  rejected: missing_time: the event has no time",
    ]
    code, out, _ = run("explain", "Bulk lookups", "--rules", rules, "--event", event, "--json")
    assert [(one["counts"], one["group"]) for one in json.loads(out)] == [
        (True, {"actor": ["P1"]}),
        (False, {"actor": []}),
    ]


def test_explain_shows_the_groups_state_after_past_events(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(PLAIN.replace("gte: 150", "gte: 3"))
    looks = [{"time": 1_767_600_000 + n, "actor": "P1", "subject": f"S{n}", "action": "read"} for n in range(4)]
    (tmp_path / "past.jsonl").write_text("".join(json.dumps(look) + "\n" for look in looks[:2]))
    again = {**looks[0], "time": looks[2]["time"]}
    nobody = {**looks[0], "actor": "P2", "action": "update"}
    (tmp_path / "event.jsonl").write_text("".join(json.dumps(look) + "\n" for look in (looks[2], again, nobody)))
    asked = ("explain", "Bulk lookups", "--rules", tmp_path / "rules.yml", "--event", tmp_path / "event.jsonl")
    code, out, _ = run(*asked, "--past", tmp_path / "past.jsonl")
    assert code == 0
    assert "  actor P1: from 2 to 3, threshold 3" in out.splitlines()
    assert "  actor P1: from 3 to 3, threshold 3" in out.splitlines()
    code, out, _ = run(*asked, "--past", tmp_path / "past.jsonl", "--json")
    stood = [one["standings"] for one in json.loads(out)]
    assert stood[0] == [{"group": {"actor": "P1"}, "before": 2, "after": 3, "threshold": 3, "expected": None}]
    assert stood[2] == [], "nobody has heard of P2"
