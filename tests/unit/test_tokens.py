"""Tokens: permissions, expiry, forbidden uses, and exports."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from clients import PASSWORD, add_accounts
from custodes.accounts.audit import AuditTrail
from custodes.accounts.roles import Permission, Role
from custodes.accounts.store import AccountStore
from custodes.accounts.tokens import PREFIX, TokenStore
from custodes.findings.triage import TriageChange, TriageStore
from harness import MonitorHarness, look_ups

FAR = 2**62


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[MonitorHarness]:
    bench = MonitorHarness(tmp_path)
    bench.feed(look_ups(["=HYPERLINK(1)", "P0007"], [f"s{n}" for n in range(200)]))
    add_accounts(bench)
    yield bench
    bench.close()


def client(bench: MonitorHarness, token: str) -> TestClient:
    return TestClient(bench.app, base_url="http://custodes", headers={"Authorization": f"Bearer {token}"})


def made(bench: MonitorHarness, role: Role, *may: Permission, expires_at: int = FAR) -> str:
    return TokenStore(bench.store.engine).add(f"the-{role}", f"for-{role}", may, 0, expires_at)


def test_a_token_reads_the_api_as_its_account(bench: MonitorHarness) -> None:
    token = made(bench, Role.INVESTIGATOR)
    assert token.startswith(PREFIX)
    found = client(bench, token).get("/api/v1/findings").json()["findings"]
    assert {one["group"]["actor"] for one in found} == {"=HYPERLINK(1)", "P0007"}
    last = AuditTrail(bench.store.engine).page(1)[0][0][1]
    assert (last.account, last.action, last.resource) == ("the-investigator", "read", "custodes.findings")
    path = f"/api/v1/findings/{found[0]['id']}/triage"
    assert client(bench, token).post(path, json={"note": "by a program"}).status_code == 200
    viewer = client(bench, made(bench, Role.VIEWER))
    assert "P0007" not in viewer.get("/api/v1/findings").text
    assert viewer.post(path, json={"note": "x"}).status_code == 403


def test_a_token_is_limited_to_its_grants_and_its_account(bench: MonitorHarness) -> None:
    reads = client(bench, made(bench, Role.INVESTIGATOR, Permission.SEE))
    answer = reads.get("/api/v1/findings")
    assert "P0007" not in answer.text
    finding = answer.json()["findings"][0]["id"]
    assert reads.post(f"/api/v1/findings/{finding}/triage", json={"note": "x"}).status_code == 403
    tokens = TokenStore(bench.store.engine)
    with pytest.raises(ValueError, match="of the-viewer does not include reveal"):
        tokens.add("the-viewer", "too-much", [Permission.REVEAL], 0, FAR)
    full = client(bench, tokens.add("the-investigator", "full", [], 0, FAR))
    AccountStore(bench.store.engine).change("the-investigator", role=Role.VIEWER)
    assert "P0007" not in full.get("/api/v1/findings").text
    AccountStore(bench.store.engine).change("the-investigator", disable=True)
    assert full.get("/api/v1/findings").status_code == 401


def test_a_token_expires(bench: MonitorHarness) -> None:
    tokens = TokenStore(bench.store.engine)
    token = tokens.add("the-viewer", "short", [], 0, 1000)
    assert tokens.of(token, 999) is not None
    assert tokens.of(token, 1000) is None
    again = tokens.add("the-viewer", "long", [], 0, FAR)
    assert [(one.label, one.seen_at) for one in tokens.list()] == [("long", None), ("short", 999)]
    tokens.revoke("long")
    assert tokens.of(again, 0) is None
    with pytest.raises(KeyError):
        tokens.revoke("long")
    with pytest.raises(ValueError, match="already"):
        tokens.add("the-viewer", "short", [], 0, FAR)
    with pytest.raises(KeyError):
        tokens.add("nobody", "x", [], 0, FAR)
    with pytest.raises(ValueError, match="is not a token label"):
        tokens.add("the-viewer", "a b", [], 0, FAR)


def test_a_stored_token_cannot_be_used(bench: MonitorHarness) -> None:
    token = made(bench, Role.VIEWER)
    bench.store.engine.dispose()
    kept = b"".join(
        path.read_bytes() for path in Path(str(bench.store.engine.url.database)).parent.glob("findings.db*")
    )
    assert token.encode() not in kept
    assert token.removeprefix(PREFIX).encode() not in kept


@pytest.mark.parametrize("path", ["/", "/findings", "/audit", "/rules", "/actors/x"])
def test_a_token_opens_no_page(bench: MonitorHarness, path: str) -> None:
    answer = client(bench, made(bench, Role.INVESTIGATOR)).get(path, follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/sign-in")


@pytest.mark.parametrize("token", ["", "custodes_", "custodes_x", "x" * 5000])
def test_an_invalid_token_is_refused(bench: MonitorHarness, token: str) -> None:
    assert client(bench, token).get("/api/v1/findings").status_code == 401
    # A session in the same request does not help: a request with a token counts as a program.
    browser = TestClient(bench.app, base_url="http://custodes")
    browser.post("/sign-in", data={"name": "the-viewer", "password": PASSWORD})
    assert browser.get("/api/v1/findings").status_code == 200
    assert browser.get("/api/v1/findings", headers={"Authorization": f"Bearer {token}"}).status_code == 401


def test_all_findings_are_exported_as_ndjson_and_csv(bench: MonitorHarness) -> None:
    finding = bench.store.page().findings[0]
    change = TriageChange(state="closed", verdict="false_positive", note="a test")
    TriageStore(bench.store.engine).change(finding.id, change, "ines", 0)
    program = client(bench, made(bench, Role.INVESTIGATOR))
    lines = program.get("/api/v1/exports/findings").text.splitlines()
    assert [json.loads(line) for line in lines] == program.get("/api/v1/findings").json()["findings"]
    answer = program.get("/api/v1/exports/findings", params={"format": "csv"})
    assert answer.headers["content-disposition"] == 'attachment; filename="findings.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["id"] for row in rows] == [json.loads(line)["id"] for line in lines]
    assert {row["group"] for row in rows} == {"actor =HYPERLINK(1)", "actor P0007"}
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row.values())
    assert [row["verdict"] for row in rows if row["id"] == finding.id] == ["false_positive"]
    only = program.get("/api/v1/exports/findings", params={"format": "csv", "state": "closed"}).text
    assert len(only.splitlines()) == 2
