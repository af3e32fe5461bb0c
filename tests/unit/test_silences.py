"""Silences: expected findings are kept without alerts; others are not affected."""

from __future__ import annotations

import time
from typing import Any

import pytest

from clients import token, visit
from custodes.accounts.roles import Role
from custodes.accounts.store import AccountStore
from custodes.findings import Finding
from custodes.findings.outbox import OutboxStore
from custodes.findings.silences import LONGEST, Silence, SilenceStore
from custodes.findings.triage import TriageChange, TriageStore
from harness import MonitorHarness, look_ups

DAY = 86_400_000_000
RULE = "Bulk lookups"


def now() -> int:
    return int(time.time() * 1e6)


def silence(bench: MonitorHarness, **changes: Any) -> int:
    wanted: dict[str, Any] = {"rule_id": None, "group": {"actor": "P0042"}, "since": now(), "until": now() + DAY}
    return SilenceStore(bench.store.engine).add(Silence(**(wanted | {"by": "ines", "reason": "an audit"} | changes)))


def insiders(bench: MonitorHarness) -> None:
    bench.feed(look_ups(["P0042", "P0007"], [f"s{n}" for n in range(150)]))


def found(bench: MonitorHarness, actor: str) -> Finding:
    return next(one for one in bench.store.page(group={"actor": actor}).findings if one.rule == RULE)


def end_all(bench: MonitorHarness) -> None:
    bench.now += 86_400
    bench.feed(look_ups(["nobody"], ["x"], at=86_400, first=1000))


def told(bench: MonitorHarness) -> list[tuple[str, str]]:
    return [(one.kind, one.finding.group["actor"]) for one in OutboxStore(bench.store.engine).after(0, 100)]


def test_silenced_findings_are_kept_without_alerts(bench: MonitorHarness) -> None:
    number = silence(bench)
    insiders(bench)
    expected = found(bench, "P0042")
    stands = TriageStore(bench.store.engine).of([expected.id])[expected.id]
    assert (stands.state, stands.verdict, stands.silence) == ("closed", "explained", number)
    (note,) = TriageStore(bench.store.engine).history(expected.id)
    assert (note.by, note.text) == ("ines", f"explained: silence {number}: an audit")
    bench.recorder.enqueue(expected)
    bench.recorder.catch_up(at_once=True)
    assert bench.evidence_store.count(expected.id) == 152
    open_, opened = (f'custodes_{name}{{level="high",rule="{RULE}"}}' for name in ("open_findings", "findings_total"))
    assert (bench.value(open_), bench.value(opened)) == (1, 2)
    assert bench.store.page(state="open").findings == [found(bench, "P0007")]
    end_all(bench)
    assert told(bench) == [("opened", "P0007"), ("closed", "P0007")]
    assert bench.value(open_) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"rule_id": "another-rule"},
        {"group": {"actor": "P0043"}},
        {"group": {"actor": "P0042", "resource": "person"}},
        {"since": now() + DAY, "until": now() + 2 * DAY},
        {"since": now() - 2 * DAY, "until": now() - DAY},
    ],
)
def test_findings_without_a_silence_are_alerted(bench: MonitorHarness, changes: dict[str, Any]) -> None:
    silence(bench, **changes)
    insiders(bench)
    assert sorted(told(bench)) == [("opened", "P0007"), ("opened", "P0042")]


def test_a_silence_can_cover_all_groups_and_be_ended(bench: MonitorHarness) -> None:
    store = SilenceStore(bench.store.engine)
    number = silence(bench, group={})
    assert [one.number for one in store.all(now())] == [number]
    store.end(number, now())
    assert store.all(now()) == []
    with pytest.raises(KeyError):
        store.end(number, now())
    insiders(bench)
    assert len(told(bench)) == 2


def test_a_reopened_silenced_finding_is_like_any_other(bench: MonitorHarness) -> None:
    silence(bench)
    insiders(bench)
    expected = found(bench, "P0042")
    TriageStore(bench.store.engine).change(expected.id, TriageChange(state="open", note="not an audit"), "omar", now())
    end_all(bench)
    assert told(bench)[1] == ("reopened", "P0042")
    assert sorted(told(bench)[2:]) == [("closed", "P0007"), ("closed", "P0042")]


@pytest.mark.parametrize(
    "changes", [{"reason": " "}, {"reason": "x" * 501}, {"until": 0}, {"since": 0, "until": LONGEST + 1}]
)
def test_a_silence_ends_and_has_a_reason(bench: MonitorHarness, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"reason|90 days"):
        silence(bench, **changes)


def test_a_silence_is_created_from_a_finding(bench: MonitorHarness, accounts: AccountStore) -> None:
    insiders(bench)
    finding = found(bench, "P0042")
    client = visit(bench, Role.INVESTIGATOR)
    page = client.get(f"/findings/{finding.id}").text
    sent = token(page)
    form = {"token": sent, "days": "7", "reason": "the yearly audit"}
    assert client.post(f"/findings/{finding.id}/silence", data=form | {"reason": ""}).status_code == 400
    assert client.post(f"/findings/{finding.id}/silence", data=form | {"days": "91"}).status_code == 422
    shown = client.post(f"/findings/{finding.id}/silence", data=form).text
    assert "the yearly audit" in shown
    (held,) = SilenceStore(bench.store.engine).all(now())
    assert (held.rule_id, held.group, held.by) == (finding.rule_id, {"actor": "P0042"}, "the-investigator")
    listed = client.get("/silences").text
    assert "the yearly audit" in listed
    viewer = visit(bench, Role.VIEWER)
    assert "P0042" not in viewer.get("/silences").text
    assert viewer.post("/silences/end", data={"number": held.number}).status_code == 403
    client.post("/silences/end", data={"token": sent, "number": held.number})
    assert "No silences." in client.get("/silences").text


def test_silences_over_the_api(bench: MonitorHarness, accounts: AccountStore) -> None:
    client = visit(bench, Role.INVESTIGATOR)
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    made = client.post("/api/v1/silences", json={"group": {"actor": "P0042"}, "until": until, "reason": "a move"})
    assert (made.status_code, made.json()["rule_id"]) == (201, None)
    assert client.get("/api/v1/silences").json()["silences"] == [made.json()]
    viewer = visit(bench, Role.VIEWER)
    assert "P0042" not in viewer.get("/api/v1/silences").text
    assert viewer.post("/api/v1/silences", json={"until": until, "reason": "x"}).status_code == 403
    assert viewer.delete(f"/api/v1/silences/{made.json()['number']}").status_code == 403
    assert client.post("/api/v1/silences", json={"until": "2020-01-01T00:00:00Z", "reason": "x"}).status_code == 400
    assert client.delete(f"/api/v1/silences/{made.json()['number']}").status_code == 204
    assert client.delete(f"/api/v1/silences/{made.json()['number']}").status_code == 404
