"""Accounts and findings on a terminal and in pipes."""

from __future__ import annotations

import getpass
import json
from pathlib import Path

import pytest

from commands import custodes
from servers import CUSTODES, Server, eventually, free_port, get

PASSWORD = b"correct horse battery\n"


def run(place: Path, *arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
    done = custodes(*arguments, "-c", "custodes.yaml", cwd=place, stdin=stdin)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_findings_are_listed_and_closed(place: Path) -> None:
    code, listed, _ = run(place, "findings", "list", "--json")
    found = [json.loads(line) for line in listed.splitlines()]
    (finding,) = (one for one in found if one["rule"] == "Bulk lookups")
    assert (code, finding["group"], finding["triage"]["state"]) == (0, {"actor": "P0042"}, "open")
    short = finding["id"][:8]
    code, table, _ = run(place, "findings", "list")
    assert code == 0
    assert short in table
    assert run(place, "findings", "ack", short)[:2] == (0, f"{short} acknowledged, {getpass.getuser()}\n")
    code, _, fault = run(place, "findings", "close", short, "--as", "explained")
    assert (code, "a note that explains the verdict" in fault, "--note" in fault) == (2, True, True)
    assert run(place, "findings", "close", short, "--as", "false_positive", "-m", "a test")[0] == 0
    code, shown, _ = run(place, "findings", "show", short)
    assert code == 0
    assert "Bulk lookups: actor P0042" in shown
    assert f"{getpass.getuser()} closed: false_positive: a test" in shown
    assert short not in run(place, "findings", "list")[1]
    assert short in run(place, "findings", "list", "--state", "closed", "--actor", "P0042")[1]
    assert run(place, "findings", "reopen", short)[:2] == (0, f"{short} open, {getpass.getuser()}\n")
    history = json.loads(run(place, "findings", "show", short, "--json")[1])["history"]
    assert [note["kind"] for note in history] == ["assigned", "acknowledged", "closed", "reopened"]
    for wrong in ("zzzz", "", short[:3]):
        code, _, fault = run(place, "findings", "show", wrong)
        assert (code, f"'{wrong}' is not the id of a finding" in fault) == (2, True), fault


def test_accounts_are_created_and_required(place: Path) -> None:
    code, said, _ = run(place, "accounts", "add", "ines", "--role", "investigator", stdin=PASSWORD)
    assert (code, said) == (0, "ines may sign in as investigator\n")
    code, _, fault = run(place, "accounts", "add", "ines", "--role", "viewer", stdin=PASSWORD)
    assert (code, "an account 'ines' exists already" in fault) == (2, True)
    code, _, fault = run(place, "accounts", "change", "omar", "--disable")
    assert (code, "account not found: 'omar'" in fault) == (2, True)
    assert run(place, "accounts", "change", "ines", "--role", "viewer", "--disable")[0] == 0
    listed = json.loads(run(place, "accounts", "list", "--json")[1])
    assert listed == [{"name": "ines", "role": "viewer", "disabled": True, "resources": []}]
    assert "viewer" in run(place, "accounts", "list")[1]


def test_without_accounts_it_serves_on_loopback_only(place: Path) -> None:
    code, _, fault = run(place, "run", "--listen", "0.0.0.0:0")
    assert (code, "no sign-in is required" in fault, "accounts add" in fault) == (2, True, True)
    assert run(place, "accounts", "add", "ines", "--role", "viewer", stdin=PASSWORD)[0] == 0
    port = free_port()
    server = Server(place / "open", [CUSTODES, "run", "-c", place / "custodes.yaml", "--listen", f"0.0.0.0:{port}"])
    assert eventually("it to be well", lambda: get(f"http://127.0.0.1:{port}/-/healthy"))
    with pytest.raises(OSError, match="401"):
        get(f"http://127.0.0.1:{port}/api/v1/findings")
    assert server.stop() == 0


def test_expected_findings_are_silenced(place: Path) -> None:
    finding = json.loads(run(place, "findings", "list", "--json")[1].splitlines()[0])
    short = finding["id"][:8]
    code, said, _ = run(place, "findings", "silence", short, "-m", "an audit", "--for", "7d")
    assert (code, said.startswith(f"silence 1: {finding['rule']}, actor P0042, until ")) == (0, True)
    (held,) = json.loads(run(place, "findings", "silences", "--json")[1])
    assert (held["rule_id"], held["group"], held["reason"]) == (finding["rule_id"], {"actor": "P0042"}, "an audit")
    assert "an audit" in run(place, "findings", "silences")[1]
    code, _, fault = run(place, "findings", "silence", short, "-m", "an audit", "--for", "91d")
    assert (code, "within 90 days" in fault) == (2, True)
    assert run(place, "findings", "unsilence", "1")[:2] == (0, "silence 1 has ended\n")
    code, _, fault = run(place, "findings", "unsilence", "1")
    assert (code, "no active silence 1" in fault) == (2, True)
