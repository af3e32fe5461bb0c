"""Basics of the command line: help, version, completion, schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commands import custodes
from custodes import __version__

COMMANDS = ("demo", "run", "check", "replay", "config")


def test_help_names_every_command() -> None:
    text = custodes("--help").stdout.decode()
    assert all(f"│ {command} " in text for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    done = custodes(command, "--help")
    assert done.returncode == 0
    assert f"custodes {command}" in done.stdout.decode()


def test_version() -> None:
    assert custodes("--version").stdout.decode() == f"custodes {__version__}\n"


def test_shell_completion_completes_commands() -> None:
    environment = {"_CUSTODES_COMPLETE": "complete_bash", "COMP_WORDS": "custodes re", "COMP_CWORD": "1"}
    assert custodes(env=environment).stdout.decode().split() == ["replay"]


def test_the_schema_describes_every_key() -> None:
    schema = json.loads(custodes("config", "schema").stdout)
    assert schema["additionalProperties"] is False
    assert {"source", "rules", "mapping", "event_time", "http"} <= set(schema["properties"])
    lateness = schema["$defs"]["EventTimeSettings"]["properties"]["allowed_lateness"]
    assert lateness["description"]
    assert lateness["default"] == "10s"


def test_no_colour_in_a_pipe(tmp_path: Path) -> None:
    event = b'{"time":1767600000,"actor":"\x1b[31mred","action":"export"}\n'
    (tmp_path / "rule.yml").write_text(
        "title: Export\nlogsource: {product: x}\ndetection: {s: {action: export}, condition: s}\n"
    )
    done = custodes("replay", "-", "--rules", "rule.yml", "--output", "table", cwd=tmp_path, stdin=event)
    assert b"\x1b" not in done.stdout


def test_a_wrong_option_is_a_usage_error(tmp_path: Path) -> None:
    done = custodes("replay", "gone.jsonl", "--output", "nonsense", cwd=tmp_path)
    assert done.returncode == 2
    assert "nonsense" in done.stderr.decode()
