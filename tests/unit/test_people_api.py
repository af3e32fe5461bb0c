"""The API offers the functions of the console: people (audited, for a purpose), evidence, rules, cases, audit trail."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from clients import visit
from custodes.accounts.resource_scope import ResourceScope
from custodes.accounts.roles import Role
from custodes.accounts.store import AccountStore
from custodes.evidence.bundle import check
from harness import MonitorHarness, look_ups
from servers import eventually

SUBJECTS = [f"410105{n:012}" for n in range(200)]
LOOK = {"kind": "actor", "name": "P0042", "purpose": "a case of mine"}


@pytest.fixture
def finding(bench: MonitorHarness, accounts: AccountStore) -> str:
    """An actor with many look-ups."""
    bench.feed(look_ups(["P0042"], SUBJECTS))
    return next(one.id for one in bench.store.page().findings if one.rule == "Bulk lookups")


def trail(bench: MonitorHarness) -> list[dict[str, object]]:
    looks: list[dict[str, object]] = visit(bench, Role.AUDITOR).get("/api/v1/audit").json()["looks"]
    return looks


def test_a_person_is_paged_and_each_look_is_audited(bench: MonitorHarness, finding: str) -> None:
    client = visit(bench, Role.INVESTIGATOR)
    first = client.post("/api/v1/people/look", json=LOOK).json()
    assert (first["profile"]["accesses"], first["profile"]["others"]) == (200, 200)
    assert finding in first["findings"]
    assert first["risk"] > 0
    second = client.post("/api/v1/people/look", json=LOOK | {"after": first["next"]}).json()
    assert second["next"] is None
    seen = [one["subject"] for page in (first, second) for one in page["accesses"]]
    assert sorted(seen) == SUBJECTS
    subject = client.post("/api/v1/people/look", json=LOOK | {"kind": "subject", "name": SUBJECTS[3]}).json()
    assert [one["actor"] for one in subject["accesses"]] == ["P0042"]
    looks = [one for one in trail(bench) if one["purpose"] == "a case of mine"]
    assert [(one["resource"], one["action"]) for one in looks] == [
        ("custodes.subject", "read"), ("custodes.actor", "read"), ("custodes.actor", "read")
    ]  # fmt: skip
    assert "P0042" not in str(looks)
    for wrong in ({"purpose": "no"}, {"kind": "table"}, {"name": ""}, {"more": 1}):
        assert client.post("/api/v1/people/look", json=LOOK | wrong).status_code == 422
    assert client.post("/api/v1/people/look", json=LOOK | {"after": "x"}).status_code == 400
    # A repeated look is audited again, with any idempotency key.
    for _ in range(2):
        client.post("/api/v1/people/look", json=LOOK, headers={"Idempotency-Key": "k"})
    assert len([one for one in trail(bench) if one["purpose"] == "a case of mine"]) == 5


def test_search_accesses_and_surroundings(bench: MonitorHarness, finding: str) -> None:
    client = visit(bench, Role.INVESTIGATOR)
    assert client.post("/api/v1/people/search", json={"wanted": "P00"}).json() == {
        "actors": ["P0042"], "is_subject": False
    }  # fmt: skip
    assert client.post("/api/v1/people/search", json={"wanted": SUBJECTS[0]}).json()["is_subject"]
    subject = {"name": SUBJECTS[0], "purpose": "a request of hers"}
    table = list(csv.reader(io.StringIO(client.post("/api/v1/people/disclosures", json=subject).text)))
    assert [row[1] for row in table] == ["actor", "P0042"]

    def around() -> dict[str, object] | None:
        answer = client.post("/api/v1/people/around", json={"name": "P0042", "purpose": "a case of mine"})
        assert answer.status_code in {200, 202}
        return answer.json() if answer.status_code == 200 else None

    found = eventually("it to be worked out", around)
    assert found["peers"] is None
    assert len(list(found["shared"])) == 6  # type: ignore[call-overload]


def test_events_and_their_evidence(bench: MonitorHarness, finding: str, tmp_path: Path) -> None:
    for one in bench.store.page(1000).findings:
        bench.recorder.enqueue(one)
    bench.recorder.catch_up(at_once=True)
    client = visit(bench, Role.INVESTIGATOR)
    contribution = client.get(f"/api/v1/findings/{finding}/events").json()
    assert (contribution["count"], contribution["kept_back"], len(contribution["events"])) == (200, 0, 200)
    assert client.get("/api/v1/findings/none/events").status_code == 404
    bundle = client.post(f"/api/v1/findings/{finding}/evidence", json={"purpose": "the works council asked"})
    (tmp_path / "bundle.zip").write_bytes(bundle.content)
    assert check(tmp_path / "bundle.zip").events == 200
    assert client.post(f"/api/v1/findings/{finding}/evidence", json={}).status_code == 422


def test_other_resources_are_hidden(bench: MonitorHarness, finding: str) -> None:
    AccountStore(bench.store.engine).change("the-investigator", reach=ResourceScope.of(["hotel.*"]))
    client = visit(bench, Role.INVESTIGATOR)
    assert client.post("/api/v1/people/look", json=LOOK).status_code == 404
    assert client.post("/api/v1/people/around", json={"name": "P0042", "purpose": "a case of mine"}).status_code == 404
    assert client.post("/api/v1/people/search", json={"wanted": "P00"}).json()["actors"] == []
    subject = {"name": SUBJECTS[0], "purpose": "a request of hers"}
    assert client.post("/api/v1/people/disclosures", json=subject).status_code == 403
    assert client.get(f"/api/v1/findings/{finding}/events").status_code == 403
    assert client.post(f"/api/v1/findings/{finding}/evidence", json={"purpose": "a case of mine"}).status_code == 403
    assert client.get("/api/v1/cases").json()["cases"][0]["actor"].startswith("actor-")


def test_the_api_has_rules_cases_and_the_audit_trail(bench: MonitorHarness, finding: str) -> None:
    viewer = visit(bench, Role.VIEWER)
    rules = {one["title"]: one for one in viewer.get("/api/v1/rules").json()["rules"]}
    bulk = rules["Bulk lookups"]
    assert (bulk["open"], bulk["findings"], bulk["group_by"]) == (1, 1, ["actor"])
    assert bulk["groups"] == 1
    assert bulk["peak_ratio"] >= 1
    (case,) = viewer.get("/api/v1/cases").json()["cases"]
    assert (case["actor"].startswith("actor-"), finding in case["findings"]) == (True, True)
    client = visit(bench, Role.INVESTIGATOR)
    assert client.get("/api/v1/cases").json()["cases"][0]["actor"] == "P0042"
    auditor = visit(bench, Role.AUDITOR)
    signed = auditor.get("/api/v1/audit", params={"account": "the-investigator", "limit": 1}).json()
    assert [one["account"] for one in signed["looks"]] == ["the-investigator"]
    whole = auditor.get("/api/v1/audit").json()["looks"]
    assert walked(auditor) == [one["number"] for one in whole]
    assert "API, 1 cases" in [one["purpose"] for one in whole]


def walked(client: TestClient) -> list[int]:
    """Returns the numbers of the trail's entries, read with one entry per page."""
    found: list[int] = []
    before: dict[str, int] = {}
    while page := client.get("/api/v1/audit", params={"limit": 1} | before).json():
        found += [one["number"] for one in page["looks"]]
        if page["next"] is None:
            return found
        before = {"before": page["next"]}
    return found
