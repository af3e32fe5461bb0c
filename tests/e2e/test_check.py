"""`custodes check`: each fault is one message with file and line, with the right exit code and no traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commands import custodes
from servers import free_port

CONFIG = """\
source:
  file:
    paths: [events.jsonl]
rules: [rules]
event_time:
  allowed_lateness: 10s
"""

RULE = """\
title: Read
name: read
logsource: {product: custodes}
detection:
    selection:
        action: read
    condition: selection
---
title: Many look-ups
name: many
correlation:
    type: event_count
    rules:
        - read
    group-by: [actor]
    timespan: 10m
    condition: {gte: 10}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "rule.yml").write_text(RULE)
    (tmp_path / "events.jsonl").write_text("")
    (tmp_path / "custodes.yaml").write_text(CONFIG)
    return tmp_path


def check(place: Path, *options: str, env: dict[str, str] | None = None) -> tuple[int, list[str]]:
    done = custodes("check", "-c", "custodes.yaml", *options, cwd=place, env=env)
    assert b"Traceback" not in done.stderr
    return done.returncode, done.stderr.decode().splitlines()


def test_a_valid_configuration_passes(place: Path) -> None:
    done = custodes("check", "-c", "custodes.yaml", cwd=place)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"ok: 1 rules\n", b"")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            "  allowed_lateness: 10s",
            "  alowed_lateness: 10s",
            "custodes.yaml:6: unknown key 'event_time.alowed_lateness' (did you mean 'allowed_lateness'?)",
        ),
        (
            "rules: [rules]",
            "rules: [rules]\nwatch: yes",
            "custodes.yaml:5: unknown key 'watch' (known: alerts, dead_letter, encryption, engine, event_time, "
            "evidence, findings, history, http, log, mapping, max_record_bytes, rules, source, state, tables, workers)",
        ),
        (
            "  allowed_lateness: 10s",
            "  allowed_lateness: ten seconds",
            "custodes.yaml:6: event_time.allowed_lateness: 'ten seconds' is not a duration; write a whole number and "
            "a unit, like 500ms, 10s, 5m, 1h, 28d",
        ),
        (
            "  file:\n    paths: [events.jsonl]",
            "  {}",
            "custodes.yaml:1: source: must have exactly one of kafka, file",
        ),
        ("paths: [events.jsonl]", "paths: [gone.jsonl]", "gone.jsonl: no such file (see source.file.paths)"),
        ("rules: [rules]", "rules: [gone]", "gone: no such file or directory"),
        ("rules: [rules]", "mapping: ecs9", "unknown mapping 'ecs9' (built in: custodes; or the path of a .yml file)"),
        ("rules: [rules]", "rules: [rules", "custodes.yaml:5: not YAML: did not find expected ',' or ']'"),
        ("rules: [rules]", "rules: [rules]\nrules: []", "custodes.yaml:5: key 'rules' is given twice"),
        ("source:\n  file:\n    paths: [events.jsonl]\n", "", "custodes.yaml:1: key 'source' is missing"),
        ("rules: [rules]", "http: {listen: 8610}", "custodes.yaml:4: http.listen: Input should be a valid string"),
        (
            "rules: [rules]",
            "http: {listen: localhost}",
            "custodes.yaml:4: http.listen: 'localhost' is not an address to listen on; "
            "write HOST:PORT, like 127.0.0.1:8610",
        ),
        (
            "rules: [rules]",
            "workers: {keyed_by: [actor]}",
            "custodes.yaml:1: workers share the partitions of Kafka topics: set source.kafka, or remove workers",
        ),
        (
            "source:\n  file:\n    paths: [events.jsonl]\n",
            "source: {kafka: {bootstrap_servers: [b:9092], topics: [t]}}\nworkers: {keyed_by: [actor]}\n",
            "custodes.yaml:1: workers share one findings database: set findings.database to a PostgreSQL URL such as "
            "postgresql+psycopg://custodes@db.example/custodes, or remove workers",
        ),
    ],
)
def test_faults_of_the_configuration(place: Path, before: str, after: str, message: str) -> None:
    assert before in CONFIG
    (place / "custodes.yaml").write_text(CONFIG.replace(before, after))
    assert check(place) == (2, [message])


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("        action: read", "        action|contians: read", "rules/rule.yml:6: Unknown modifier 'contians'"),
        ("        - read\n", "        - reed\n", "rules/rule.yml:14: no rule 'reed' (did you mean 'read'?)"),
        ("timespan: 10m", "timespan: ten", "rules/rule.yml:16: Timespan 'ten' is invalid"),
        ("condition: selection", "condition: selektion", "rules/rule.yml:7: Detection 'selektion' not defined"),
        (
            "event_count",
            "temporal_ordered",
            "rules/rule.yml:13: temporal_ordered requires two rules or more",
        ),
        (
            "event_count",
            "event_cnt",
            "rules/rule.yml:12: unknown correlation type 'event_cnt' (did you mean 'event_count'?)",
        ),
        ("event_count", "value_count", "rules/rule.yml:11: Value count correlation rule without field reference"),
        ("action: read", "action|re: '(?=x)'", "rules/rule.yml:6: field 'action': regular expression: look-around"),
        ("action: read", "action|cidr: 10.0.0.0/99", "rules/rule.yml:6: Invalid CIDR"),
        ("{gte: 10}", "{gte: many}", "rules/rule.yml:17: 'gte' must be a number"),
        ("{gte: 10}", "{gte: 10}\ncustodes: {keep_opn: 1h}", "rules/rule.yml:18: unknown key 'custodes.keep_opn'"),
        ("{gte: 10}", "{gte: 10}\ncustodes: {resolution: 7s}", "rules/rule.yml:18: resolution must be at least 1s"),
        (
            "{gte: 10}",
            "{gte: 10}\ncustodes: {keep_open: x}",
            "rules/rule.yml:18: custodes.keep_open: 'x' is not a duration",
        ),
        (
            "{gte: 10}",
            "{gte: 10}\ncustodes: {reset: 1}",
            "rules/rule.yml:18: 'reset' is not supported yet",
        ),
        ("[actor]", "[actor..x]", "rules/rule.yml:15: field 'actor..x': path 'actor..x' has an empty key"),
        ("name: many", "name: read", "rules/rule.yml:9: 'read' is taken by rules/rule.yml:1"),
        ("name: many", "name: [many", "rules/rule.yml:11: not YAML"),
    ],
)
def test_faults_of_rules(place: Path, before: str, after: str, message: str) -> None:
    assert before in RULE
    (place / "rules" / "rule.yml").write_text(RULE.replace(before, after, 1))
    code, lines = check(place)
    assert code == 2
    assert message in lines[0]
    assert sum(line.startswith("rules/") for line in lines) == 1, lines


def test_all_faults_are_reported_together_and_as_json(place: Path) -> None:
    (place / "rules" / "rule.yml").write_text(RULE.replace("- read", "- reed").replace("action: read", "a|x: read"))
    (place / "rules" / "second.yml").write_text(RULE.replace("10m", "0s").replace("read", "other"))
    done = custodes("check", "-c", "custodes.yaml", "--json", cwd=place)
    faults = json.loads(done.stdout)
    assert done.returncode == 2
    assert {(fault["file"], fault["line"]) for fault in faults} >= {("rules/rule.yml", 6), ("rules/second.yml", 16)}


def test_look_up_tables_are_read(place: Path) -> None:
    config = place / "custodes.yaml"
    config.write_text(config.read_text() + "tables: {watched: watched.csv, wached: watched.csv}\n")
    (place / "watched.csv").write_text("person\n")
    assert check(place) == (2, ["watched.csv: no derived field uses a table 'wached' (did you mean 'watched'?)"])
    config.write_text(config.read_text().replace(", wached: watched.csv", ""))
    assert check(place)[0] == 0
    (place / "watched.csv").write_text("person\nS1,too much\n")
    code, (line,) = check(place)
    assert (code, line.startswith("watched.csv:")) == (2, True), line
    (place / "watched.csv").unlink()
    assert check(place) == (2, ["watched.csv: cannot read: No such file or directory"])


def test_the_environment_overrides_the_file(place: Path) -> None:
    code, lines = check(place, env={"CUSTODES_EVENT_TIME__ALLOWED_LATENESS": "soon"})
    assert code == 2
    assert "'soon' is not a duration" in lines[0]
    assert check(place, env={"CUSTODES_EVENT_TIME__ALLOWED_LATENESS": "20s"})[0] == 0


def test_a_directory_that_cannot_be_read(place: Path) -> None:
    closed = place / "rules" / "closed"
    closed.mkdir()
    closed.chmod(0)
    try:
        done = custodes("check", "-c", "custodes.yaml", cwd=place, as_anybody=True)
    finally:
        closed.chmod(0o700)
    assert (done.returncode, done.stderr) == (2, b"rules/closed: cannot read: Permission denied\n")


def test_an_unreachable_broker_is_exit_1(place: Path) -> None:
    (place / "custodes.yaml").write_text(
        "source:\n  kafka:\n    bootstrap_servers: [127.0.0.1:" + str(free_port()) + "]\n    topics: [t]\n"
    )
    code, lines = check(place)
    assert code == 1
    assert len(lines) == 1
    assert lines[0].startswith("cannot reach Kafka at 127.0.0.1:")
    assert check(place, "--offline")[0] == 0


def test_a_misspelt_kafka_setting(place: Path) -> None:
    (place / "custodes.yaml").write_text(
        "source:\n  kafka:\n    bootstrap_servers: [h:1]\n    topics: [t]\n    client: {sasl_mechanizm: PLAIN}\n"
    )
    assert check(place, "--offline") == (
        2,
        ["unknown key 'source.kafka.client.sasl_mechanizm' (did you mean 'sasl_mechanism'?)"],
    )


def test_usage_is_exit_2(place: Path) -> None:
    assert custodes("check", cwd=place).returncode == 2
    assert custodes("no-such-command", cwd=place).returncode == 2
