"""The console: permissions, audit, and attacks. docs/threat-model.md lists these tests."""

from __future__ import annotations

import csv
import io
import json
import re
import time
import zipfile
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient

from clients import PASSWORD, token, visit
from custodes.accounts.audit import AuditTrail
from custodes.accounts.roles import Role
from custodes.accounts.self_monitoring import SelfMonitor
from custodes.accounts.store import AccountStore
from custodes.findings import MissedRecords
from custodes.findings.shortfalls import Shortfall
from custodes.sources import LineChunk
from harness import START, MonitorHarness, look_ups

SUBJECTS = [f"410105{n:012}" for n in range(200)]


def finding_of(bench: MonitorHarness, actor: str) -> str:
    """Sends many look-ups of one actor and returns the finding's id."""
    bench.feed(look_ups([actor], SUBJECTS))
    return next(one.id for one in bench.store.page().findings if one.rule == "Bulk lookups")


def look(client: TestClient, page: str, address: str, purpose: str = "a case of mine") -> str:
    """Opens a person's page with a purpose and returns it."""
    kind, hidden = urlsplit(address).path.strip("/").split("/")
    form = {"token": token(page), "kind": kind[:-1], "hidden": hidden, "purpose": purpose}
    answer = client.post("/look", data=form)
    assert answer.status_code == 200
    return str(answer.text)


MAY = {
    "/": set(Role),
    "/findings": set(Role),
    "/findings/{finding}": set(Role),
    "/findings/cases": set(Role),
    "/silences": set(Role),
    "/rules": set(Role),
    "/rules/{rule}": set(Role),
    "/system": set(Role),
    "/audit": {Role.AUDITOR},
    "/actors/{actor}": {Role.INVESTIGATOR},
    "/actors/{actor}/around": {Role.INVESTIGATOR},
    "/subjects/{subject}": {Role.INVESTIGATOR},
    "/subjects/{subject}/disclosures.csv": {Role.INVESTIGATOR},
    "/api/v1/findings": set(Role),
    "/api/v1/findings/{finding}": set(Role),
    "/api/v1/findings/{finding}/history": set(Role),
    "/api/v1/risks": set(Role),
    "/api/v1/gaps": set(Role),
    "/api/v1/shortfalls": set(Role),
    "/api/v1/status": set(Role),
    "/api/v1/views": set(Role),
    "/api/v1/rules": set(Role),
    "/api/v1/cases": set(Role),
    "/api/v1/audit": {Role.AUDITOR},
    "/api/v1/findings/{finding}/events": {Role.INVESTIGATOR},
}


def test_every_page_requires_its_permission(bench: MonitorHarness, accounts: AccountStore) -> None:
    finding = finding_of(bench, "P0042")
    names = {
        "finding": finding,
        "rule": bench.store.get(finding).rule_id,  # type: ignore[union-attr]
        "actor": bench.secrets.hidden("actor", "P0042"),
        "subject": bench.secrets.hidden("subject", SUBJECTS[0]),
    }
    stranger = visit(bench)
    for role in Role:
        client = visit(bench, role)
        for path, roles in MAY.items():
            address = path.format(**names)
            answer = client.get(address)
            assert answer.status_code == (200 if role in roles else 403), f"{role} at {path}"
            if role is not Role.INVESTIGATOR:
                assert "P0042" not in answer.text, f"{role} reads a name at {path}"
                assert SUBJECTS[0] not in answer.text
            refused = stranger.get(address, follow_redirects=False)
            assert refused.status_code == (401 if path.startswith("/api/") else 303), path
        for path in (
            "/findings/triage", f"/api/v1/findings/{finding}/triage", f"/findings/{finding}/evidence", "/look",
            "/search",
        ):  # fmt: skip
            change: dict[str, Any] = (
                {"json": {"note": "x"}} if "api" in path else {"data": {"finding": finding, "action": "note"}}
            )
            status = client.post(path, **change).status_code
            assert (status != 403) == (role is Role.INVESTIGATOR and "api" in path), f"{role} at {path}: {status}"
            assert stranger.post(path, **change).status_code == 401
    for path in ("/metrics", "/-/healthy", "/-/ready", "/sign-in", "/static/console.css"):
        assert stranger.get(path).status_code in {200, 503}
    assert stranger.get("/static/%2e%2e/app.py").status_code == 404


def test_every_look_at_a_person_is_audited_with_its_purpose(bench: MonitorHarness, accounts: AccountStore) -> None:
    finding = finding_of(bench, "P0042")
    client = visit(bench, Role.INVESTIGATOR)
    page = client.get(f"/findings/{finding}").text
    assert "Bulk lookups: actor P0042" in page
    address = next(iter(re.findall(r'href="(/subjects/[^"]+)"', page)))
    asked = client.get(address)
    assert "Purpose for viewing" in asked.text
    assert "410105" not in asked.text
    assert "Purpose for viewing" in look(client, asked.text, address, "no")
    shown = look(client, asked.text, address)
    subject = re.search(r"<h1>Subject (\d+)</h1>", shown)
    assert subject
    assert ">P0042</a>" in shown
    export = client.get(f"{address}/disclosures.csv")
    rows = list(csv.reader(io.StringIO(export.text)))
    assert [row[1] for row in rows] == ["actor", "P0042"]
    assert client.get("/api/v1/findings").status_code == 200
    client.post("/search", data={"token": token(page), "wanted": "P004"})
    auditor = visit(bench, Role.AUDITOR).get("/audit").text
    told = re.findall(r"<td>the-investigator</td><td>([a-z ]+)</td><td>([a-z]+)</td>", auditor)
    assert told[::-1] == [
        ("sign in", "session"),
        ("read", "finding"),
        ("read", "subject"),
        ("export", "subject"),
        ("read", "findings"),
        ("search", "people"),
    ]
    assert auditor.count("a case of mine") == 2
    assert subject[1] not in auditor


def test_a_case_has_the_open_findings_of_one_actor(bench: MonitorHarness, accounts: AccountStore) -> None:
    bench.feed(look_ups(["P0042", "P0007"], [f"{n}" for n in range(200)]))
    bench.feed(look_ups(["P0042"], [f"t{n}" for n in range(700)], at=60, first=1000))
    client = visit(bench, Role.INVESTIGATOR)
    shown = client.get("/findings/cases").text
    assert re.findall(r'">(actor-\w+)</a>\s*<small>', shown) == [
        bench.secrets.pseudonym("actor", name) for name in ("P0042", "P0007")
    ]
    theirs = re.findall(r'name="finding" value="([^"]+)" checked', shown)
    assert len(theirs) == len(bench.store.page().findings)
    form = {"token": token(shown), "finding": theirs[:-1], "action": "close", "verdict": "confirmed"}
    assert client.post("/findings/triage", data=form | {"back": "/findings/cases"}).url.path == "/findings/cases"
    left = client.get("/findings/cases").text
    assert re.findall(r'name="finding" value="([^"]+)"', left) == theirs[-1:]
    assert bench.secrets.pseudonym("actor", "P0042") not in left
    assert "P0007" not in visit(bench, Role.VIEWER).get("/findings/cases").text


def test_evidence_is_exported_for_an_audited_purpose(bench: MonitorHarness, accounts: AccountStore) -> None:
    finding = finding_of(bench, "P0042")
    client = visit(bench, Role.INVESTIGATOR)
    form = {"token": token(client.get(f"/findings/{finding}").text), "purpose": "a complaint"}
    assert client.post(f"/findings/{finding}/evidence", data=form).status_code == 404
    found = bench.store.get(finding)
    assert found is not None
    bench.recorder.enqueue(found)
    bench.recorder.catch_up(at_once=True)
    assert "202 entries in the signed log" in client.get(f"/findings/{finding}").text
    assert client.post(f"/findings/{finding}/evidence", data=form | {"purpose": "no"}).status_code == 400
    answer = client.post(f"/findings/{finding}/evidence", data=form)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as bundle:
        assert len(bundle.read("events.ndjson").splitlines()) == 200
    assert "Download" not in visit(bench, Role.VIEWER).get(f"/findings/{finding}").text
    auditor = visit(bench, Role.AUDITOR).get("/audit").text
    assert "<td>the-investigator</td><td>export</td><td>evidence</td>" in auditor
    assert "a complaint" in auditor


def test_an_actors_name_is_escaped_on_every_page(bench: MonitorHarness) -> None:
    name = "<img src=x onerror=alert(1)>\"'{{7*7}}"
    finding = finding_of(bench, name)
    client = visit(bench)
    page = client.get("/").text
    pages = [page, client.get("/findings").text, client.get(f"/findings/{finding}").text]
    pages.append(look(client, pages[1], f"/actors/{bench.secrets.hidden('actor', name)}"))
    pages.append(client.post("/search", data={"token": token(pages[1]), "wanted": name}).text)
    for page in pages:
        assert "<img" not in page
        assert "&lt;img src=x onerror=alert(1)&gt;" in page
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://elsewhere.example"},
        {"origin": "null"},
    ],
)
def test_cross_site_requests_are_refused(bench: MonitorHarness, headers: dict[str, str]) -> None:
    finding = finding_of(bench, "P0042")
    client = visit(bench)
    form = {"token": token(client.get("/findings").text), "finding": finding, "action": "note", "note": "x"}
    bodies: dict[str, dict[str, Any]] = {
        "/findings/triage": {"data": form},
        f"/api/v1/findings/{finding}/triage": {"json": {"note": "x"}},
    }
    for path, body in bodies.items():
        assert client.post(path, headers=headers, **body).status_code == 403
    assert client.post("/findings/triage", data=form | {"token": "0" * 64}).status_code == 403
    assert client.post("/findings/triage", data=form, headers={"sec-fetch-site": "same-origin"}).status_code == 200
    assert "<b>" in client.get(f"/findings/{finding}").text


def test_a_form_token_is_bound_to_its_session(bench: MonitorHarness, accounts: AccountStore) -> None:
    finding = finding_of(bench, "P0042")
    form = {"finding": finding, "action": "note", "note": "x"}
    form["token"] = token(visit(bench, Role.INVESTIGATOR).get("/findings").text)
    assert visit(bench, Role.INVESTIGATOR).post("/findings/triage", data=form).status_code == 403


def test_a_session_key_from_before_sign_in_is_replaced(bench: MonitorHarness, accounts: AccountStore) -> None:
    client = TestClient(bench.app, base_url="http://custodes", cookies={"custodes": "known-to-an-attacker"})
    data = {"name": "the-investigator", "password": PASSWORD}
    answer = client.post("/sign-in", data=data, follow_redirects=False)
    cookie = answer.headers["set-cookie"]
    assert "known-to-an-attacker" not in cookie
    assert all(part in cookie.lower() for part in ("httponly", "samesite=strict", "path=/"))
    attacker = TestClient(bench.app, base_url="http://custodes", cookies={"custodes": "known-to-an-attacker"})
    assert attacker.get("/findings", follow_redirects=False).status_code == 303


def test_signing_out_ends_the_session_everywhere(bench: MonitorHarness, accounts: AccountStore) -> None:
    client = visit(bench, Role.VIEWER)
    key = client.cookies["custodes"]
    client.post("/sign-out", data={"token": token(client.get("/rules").text)})
    thief = TestClient(bench.app, base_url="http://custodes", cookies={"custodes": key})
    assert thief.get("/findings", follow_redirects=False).status_code == 303


@pytest.mark.parametrize(
    "wanted",
    [
        "https://elsewhere.example",
        "//elsewhere.example",
        "/\\elsewhere.example",
        "javascript:alert(1)",
        "/\t/x",
        "\\\\x",
    ],
)
def test_sign_in_redirects_stay_on_the_site(bench: MonitorHarness, accounts: AccountStore, wanted: str) -> None:
    data = {"name": "the-viewer", "password": PASSWORD, "next": wanted}
    answer = visit(bench).post("/sign-in", data=data, follow_redirects=False)
    assert answer.headers["location"] == "/"
    data["next"] = "/findings?state=open"
    assert visit(bench).post("/sign-in", data=data, follow_redirects=False).headers["location"] == data["next"]


def test_without_accounts_only_loopback_names_are_served(bench: MonitorHarness) -> None:
    """Another site may have its name resolve to this server; the browser then sends that name."""
    rebound = TestClient(bench.app, base_url="http://elsewhere.example")
    assert rebound.get("/api/v1/findings").status_code == 421
    assert rebound.get("/").status_code == 421


def test_exports_contain_no_formula(bench: MonitorHarness) -> None:
    name = '=HYPERLINK("https://elsewhere.example")'
    bench.feed(look_ups([name, "+1", "@x", "-2", "\t=1", "plain"], ["s1"]))
    client = visit(bench)
    address = f"/subjects/{bench.secrets.hidden('subject', 's1')}"
    look(client, client.get("/findings").text, address)
    rows = list(csv.reader(io.StringIO(client.get(f"{address}/disclosures.csv").text)))
    assert sorted(row[1] for row in rows[1:]) == sorted([f"'{name}", "'+1", "'@x", "'-2", "'\t=1", "plain"])


def test_unknown_addresses_are_404(bench: MonitorHarness) -> None:
    client = visit(bench)
    for path in (
        "/findings/none",
        "/actors/none",
        f"/subjects/{bench.secrets.hidden('actor', 'P1')}",
    ):
        assert client.get(path).status_code == 404, path
    for path in ("/findings?after=junk", "/api/v1/findings?after=junk"):
        assert client.get(path).status_code == 400
    address = f"/actors/{bench.secrets.hidden('actor', 'P1')}"
    look(client, client.get("/findings").text, address)
    for after in ("junk", "1:x:y", "9" * 30 + ":1:x"):
        assert client.get(f"{address}?after={after}").status_code == 400


def test_concurrent_changes_by_two_users_are_refused(bench: MonitorHarness) -> None:
    finding = finding_of(bench, "P0042")
    client = visit(bench)
    form = {"token": token(client.get("/findings").text), "finding": finding, "version": "0"}
    assert client.post("/findings/triage", data=form | {"action": "acknowledge"}).status_code == 200
    second = client.post("/findings/triage", data=form | {"action": "close", "verdict": "confirmed"})
    assert (second.status_code, "at version 1" in second.text) == (409, True)
    for change, status in (
        ({"state": "closed"}, 400),
        ({"state": "closed", "verdict": "confirmed", "version": 0}, 409),
        ({"state": "closed", "verdict": "explained", "note": "an audit", "version": 1}, 200),
        ({"unknown": 1}, 422),
    ):
        assert client.post(f"/api/v1/findings/{finding}/triage", json=change).status_code == status
    assert client.post("/api/v1/findings/none/triage", json={"note": "x"}).status_code == 404
    listed = client.get("/api/v1/findings?state=closed").json()["findings"]
    assert [(one["id"], one["triage"]["verdict"]) for one in listed] == [(finding, "explained")]
    kinds = [note["kind"] for note in client.get(f"/api/v1/findings/{finding}/history").json()["notes"]]
    assert kinds == ["assigned", "acknowledged", "closed"]


def test_a_finding_shows_its_count_and_events(bench: MonitorHarness) -> None:
    bench.feed(look_ups(["P0042"], SUBJECTS))
    bench.feed(look_ups(["P0042"], ["later"], at=7200))
    finding = next(one for one in bench.store.page().findings if one.rule == "Bulk lookups")
    page = visit(bench).get(f"/findings/{finding.id}").text
    assert "200 different subjects within 1h, 1.3 times the threshold of 150" in page
    assert "Subjects (200)" in page
    assert "Events (200)" in page
    assert 'aria-label="The count rose to 200; the threshold is 150."' in page


def test_a_user_who_browses_many_people_is_found(bench: MonitorHarness, accounts: AccountStore) -> None:
    client = visit(bench, Role.INVESTIGATOR)
    page = client.get("/rules").text
    for n in range(40):
        look(client, page, f"/subjects/{bench.secrets.hidden('subject', f's{n}')}")
    (finding,) = bench.store.page().findings
    assert (finding.rule, finding.shown, finding.peak) == (
        "Many people looked up in Custodes", {"actor": "the-investigator"}, 40,
    )  # fmt: skip
    series = 'custodes_findings_total{level="high",rule="Many people looked up in Custodes"}'
    assert bench.value(series) == 1
    assert "40 different subjects within 1h" in client.get(f"/findings/{finding.id}").text
    assert finding.rule in visit(bench, Role.AUDITOR).get("/rules").text


def test_password_guessing_from_one_address_is_found(bench: MonitorHarness, accounts: AccountStore) -> None:
    client = visit(bench)
    for n in range(15):
        assert client.post("/sign-in", data={"name": f"nobody{n}", "password": "x"}).status_code == 401
    assert [(one.rule, one.group) for one in bench.store.page().findings] == [
        ("Many refused sign-ins to Custodes", {"client_ip": "testclient"})
    ]
    # Another process starts with the same trail and creates no second finding.
    again = SelfMonitor(AuditTrail(bench.store.engine), bench.store, bench.monitor.tell)
    again.catch_up(int(time.time() * 1e6))
    assert len(bench.store.page().findings) == 1
    again.catch_up(int(time.time() * 1e6) + 3_600_000_000)
    assert all(one.closed_at for one in bench.store.page().findings)


def test_the_system_page_shows_problems(bench: MonitorHarness) -> None:
    bench.feed(LineChunk(0, b"no event\n", 1))
    bench.monitor.metrics.alert_failures.labels("pager").set(3)
    bench.store.record_gap(MissedRecords('{"topic": "t"}', 5, 9, 0))
    bench.store.record_shortfalls([Shortfall("storm", bench.monitor.rules[0].id, 0, 1, 70, 0)])
    with TestClient(bench.app, base_url="http://custodes") as client:
        page = client.get("/system").text
    warned = re.findall(r'<tr class="warns"><th scope="row">([^<]*?) <small>([^<]*)</small>', page)
    assert ("events rejected", "bad_json") in warned
    assert ("alert failures", "pager") in warned
    assert ("source streams", "script") not in warned
    assert bench.monitor.rules[0].title in page
    assert '<td class="number">5</td><td class="number">9</td>' in page


def test_pages_show_an_actors_risk_and_a_findings_audit_entries(bench: MonitorHarness) -> None:
    events = [
        {"time": START + n, "actor": "P0042", "subject": f"s{n}", "action": "read", "resource": f"table-{n % 3 // 2}"}
        for n in range(180)
    ]
    bench.feed(LineChunk(0, b"".join(json.dumps(event).encode() + b"\n" for event in events), 1))
    finding = next(one for one in bench.store.page().findings if one.rule == "Bulk lookups")
    client = visit(bench)
    page = client.get(f"/findings/{finding.id}").text
    assert re.search(r"<h2>Resources</h2>\s*<ol[^>]*><li><span>table-0</span> <b>120</b></li><li><span>table-1", page)
    address = next(iter(re.findall(r'href="(/actors/[^"]+)"', page)))
    shown = look(client, page, address)
    assert 'aria-label="Risk by day"' in shown
    assert re.search(r"<title>01-05: [1-9]\d*</title>", shown), "the day of the finding"
    assert "<title>01-04: 0</title>" in shown
