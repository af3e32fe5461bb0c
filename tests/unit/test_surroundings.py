"""Surroundings of an actor (peers, other actors of the same subjects) and of a finding."""

from __future__ import annotations

import json
import re

from starlette.testclient import TestClient

from clients import token, visit
from custodes.accounts.resource_scope import ResourceScope
from custodes.accounts.roles import Role
from custodes.accounts.store import AccountStore
from custodes.sources import LineChunk
from harness import START, MonitorHarness, look_ups
from servers import eventually

DAY = 86_400
NASTY = '<b x="&">\U0001f600'


def feed(bench: MonitorHarness, *looks: tuple[float, str, str, str]) -> None:
    """Look-ups, each with a time, an actor, a peer group and a subject."""
    events = [
        {"time": START + at, "actor": actor, "peer_group": group, "subject": subject, "action": "read"}
        for at, actor, group, subject in looks
    ]
    bench.feed(LineChunk(0, b"".join(json.dumps(event).encode() + b"\n" for event in events), 1))


def around(bench: MonitorHarness, client: TestClient, actor: str) -> str:
    hidden = bench.secrets.hidden("actor", actor)
    form = {"token": token(client.get("/findings").text), "kind": "actor", "hidden": hidden, "purpose": "a case"}
    assert client.post("/look", data=form).status_code == 200
    return eventually("it to be worked out", lambda: _unless_it_waits(client, f"/actors/{hidden}/around"))


def _unless_it_waits(client: TestClient, path: str) -> str | None:
    answer = client.get(path)
    assert answer.status_code == 200
    return None if "refresh" in answer.headers else answer.text


def test_an_actor_is_compared_with_peers_and_co_viewers(bench: MonitorHarness, accounts: AccountStore) -> None:
    feed(
        bench,
        *[(0, "P1", "traffic", "S1")] * 5, *[(1, "P1", "traffic", "S2")] * 2, *[(2, "P2", "traffic", "S1")] * 3,
        (3, "P3", "traffic", "S2"), (4, NASTY, "registry", "S1"),
    )  # fmt: skip
    client = visit(bench, Role.INVESTIGATOR)
    page = around(bench, client, "P1")
    assert "3 members of traffic looked up at least one person" in page
    assert "The median is 1; this actor looked up 2, and 0 peers looked up more." in page
    names = {name: bench.secrets.pseudonym("actor", name) for name in ("P1", "P2", "P3", NASTY)}
    subjects = {name: bench.secrets.pseudonym("subject", name) for name in ("S1", "S2")}
    picture = re.search(r"<svg.*?</svg>", page, re.DOTALL)
    assert picture
    assert set(re.findall(r"<text[^>]*>([^<]+)</text>", picture[0])) == {*names.values(), *subjects.values()}
    assert picture[0].count("<line") == 2 + 3
    first = re.search(rf"{subjects['S1']}</a>: 5 look-ups;\s*also by(.*?)</li>", page, re.DOTALL)
    assert first
    assert re.findall(r">([^<]+)</a> \((\d)\)", first[1]) == [(names["P2"], "3"), (names[NASTY], "1")]
    assert "P2" not in page.replace(names["P2"], "")


def test_without_a_purpose_the_page_asks_for_one(bench: MonitorHarness, accounts: AccountStore) -> None:
    feed(bench, (0, "P1", "traffic", "S1"))
    client = visit(bench, Role.INVESTIGATOR)
    shown = client.get(f"/actors/{bench.secrets.hidden('actor', 'P1')}/around")
    assert "Purpose for viewing" in shown.text
    assert visit(bench, Role.VIEWER).get(f"/actors/{bench.secrets.hidden('actor', 'P1')}/around").status_code == 403


def test_peers_respect_the_resource_scope(bench: MonitorHarness, accounts: AccountStore) -> None:
    looks = [
        {"time": START, "actor": actor, "peer_group": "traffic", "subject": "S1", "resource": resource}
        for actor, resource in (("P1", "hotel"), ("P2", "hotel"), ("P3", "vehicle"))
    ]
    events = b"".join(json.dumps(look).encode() + b"\n" for look in looks)
    bench.feed(LineChunk(0, events, 1))
    AccountStore(bench.store.engine).change("the-investigator", reach=ResourceScope.of(["hotel"]))
    page = around(bench, visit(bench, Role.INVESTIGATOR), "P1")
    assert "of traffic" not in page
    assert bench.secrets.pseudonym("actor", "P2") in page
    assert bench.secrets.pseudonym("actor", "P3") not in page


def test_a_finding_lists_findings_of_about_the_same_time(bench: MonitorHarness, accounts: AccountStore) -> None:
    subjects = [f"410105{n:012}" for n in range(200)]
    bench.now = START + 9 * DAY
    for days, actor in enumerate(["P0001", "P0002", "P0003", "P0004"]):
        bench.feed(look_ups([actor], subjects, at=days * 0.6 * DAY, first=days * 1000 + 1))
    found = {one.group["actor"]: one for one in bench.store.page(1000).findings if one.rule == "Bulk lookups"}
    near = bench.store.about_then(found["P0002"], DAY * 1_000_000, 10)
    assert {one.group["actor"] for one in near} == {"P0001", "P0003"}
    page = visit(bench, Role.VIEWER).get(f"/findings/{found['P0002'].id}").text
    section = page.partition("Findings of this rule within a day")[2].partition("</section>")[0]
    assert bench.secrets.pseudonym("actor", "P0003") in section
    assert bench.secrets.pseudonym("actor", "P0004") not in section
