"""Need to know: a restricted user sees neither events nor people of other resources."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from clients import PASSWORD, token, visit
from custodes.accounts.resource_scope import ResourceScope
from custodes.accounts.roles import Role
from custodes.accounts.store import AccountStore
from custodes.accounts.tokens import TokenStore
from custodes.sources import LineChunk
from harness import START, MonitorHarness

GUESTS = [f"320102{n:012}" for n in range(200)]
DRIVERS = [f"410105{n:012}" for n in range(200)]


def feed(bench: MonitorHarness, *looks: tuple[str, str | None, list[str]]) -> None:
    """Sends look-ups of many subjects by an actor in a resource."""
    lines = b"".join(
        json.dumps(
            {"time": START, "actor": actor, "subject": subject, "resource": resource, "action": "read", "purpose": "p"}
        ).encode()
        + b"\n"
        for actor, resource, subjects in looks
        for subject in subjects
    )
    bench.feed(LineChunk(0, lines, 1))


def limited(bench: MonitorHarness, *patterns: str) -> TestClient:
    """An investigator restricted to some resources, signed in."""
    AccountStore(bench.store.engine).add("hana", Role.INVESTIGATOR, PASSWORD, 0, ResourceScope.of(patterns))
    client = TestClient(bench.app, base_url="https://custodes", headers={"sec-fetch-site": "same-origin"})
    client.post("/sign-in", data={"name": "hana", "password": PASSWORD})
    return client


def finding_about(bench: MonitorHarness, actor: str) -> str:
    found = bench.store.page(1000, group={"actor": actor}).findings
    return next(one.id for one in found if one.rule == "Bulk lookups")


def test_names_are_visible_for_permitted_resources(bench: MonitorHarness, accounts: AccountStore) -> None:
    feed(bench, ("P0042", "hotel.guest", GUESTS), ("P0042", "vehicle.owner", DRIVERS), ("P0043", None, DRIVERS))
    client = limited(bench, "hotel.*", "border.?")
    mine, other = finding_about(bench, "P0042"), finding_about(bench, "P0043")
    page = client.get(f"/findings/{mine}").text
    assert "Bulk lookups: actor P0042" in page
    assert "200 of them are not shown: their resources are outside your access" in page
    assert "vehicle.owner" not in page
    refused = client.get(f"/findings/{other}").text
    assert "Names are hidden" in refused
    assert "P0043" not in refused
    assert client.get(f"/api/v1/findings/{mine}").json()["group"] == {"actor": "P0042"}
    for path in (f"/api/v1/findings/{other}", "/api/v1/findings", "/api/v1/risks", "/api/v1/exports/findings"):
        assert "P004" not in client.get(path).text, path


def test_people_are_shown_within_permitted_resources(bench: MonitorHarness, accounts: AccountStore) -> None:
    feed(
        bench,
        ("P0042", "hotel.guest", GUESTS),
        ("P0042", "vehicle.owner", DRIVERS),
        ("P0043", "vehicle.owner", DRIVERS),
    )
    client = limited(bench, "hotel.*")
    page = client.get(f"/findings/{finding_about(bench, 'P0042')}").text

    def looked_at(kind: str, name: str) -> tuple[int, str]:
        hidden = bench.secrets.hidden(kind, name)
        form = {"token": token(page), "kind": kind, "hidden": hidden, "purpose": "a case of mine"}
        answer = client.post("/look", data=form)
        return answer.status_code, answer.text

    status, shown = looked_at("actor", "P0042")
    assert (status, "hotel.guest" in shown, "vehicle.owner" in shown) == (200, True, False)
    assert "<dt>look-ups in history</dt><dd>200</dd>" in shown
    status, shown = looked_at("subject", GUESTS[0])
    assert (status, "P0042" in shown) == (200, True)
    hidden = bench.secrets.hidden("subject", GUESTS[0])
    assert client.get(f"/subjects/{hidden}/disclosures.csv").status_code == 403
    for kind, name in (("actor", "P0043"), ("subject", DRIVERS[0])):
        status, shown = looked_at(kind, name)
        assert (status, name in shown) == (403, False)
    for wanted, is_there in (("P0042", True), ("P0043", False), (GUESTS[0], True), (DRIVERS[0], False)):
        found = client.post("/search", data={"token": token(page), "wanted": wanted}).text
        assert bool(re.search(r'href="/(actors|subjects)/', found)) == is_there, wanted


def test_evidence_is_exported_only_if_all_of_it_is_permitted(bench: MonitorHarness, accounts: AccountStore) -> None:
    feed(bench, ("P0042", "hotel.guest", GUESTS), ("P0043", "hotel.guest", GUESTS), ("P0043", "vehicle.owner", DRIVERS))
    for found in bench.store.page(1000).findings:
        bench.recorder.enqueue(found)
    bench.recorder.catch_up(at_once=True)
    client = limited(bench, "hotel.*")
    for actor, status in (("P0042", 200), ("P0043", 403)):
        finding = finding_about(bench, actor)
        form = {"token": token(client.get(f"/findings/{finding}").text), "purpose": "a case of mine"}
        assert client.post(f"/findings/{finding}/evidence", data=form).status_code == status, actor


def test_a_token_has_the_resource_scope_of_its_account(bench: MonitorHarness, accounts: AccountStore) -> None:
    feed(bench, ("P0043", "vehicle.owner", DRIVERS))
    limited(bench, "hotel.*")
    made = TokenStore(bench.store.engine).add("hana", "script", [], 0, 2**60)
    client = TestClient(bench.app, base_url="https://custodes", headers={"authorization": f"Bearer {made}"})
    assert client.get("/api/v1/findings").status_code == 200
    assert "P0043" not in client.get(f"/api/v1/findings/{finding_about(bench, 'P0043')}").text


def test_an_account_can_be_unrestricted_again(bench: MonitorHarness, accounts: AccountStore) -> None:
    store = AccountStore(bench.store.engine)
    store.change("the-investigator", reach=ResourceScope.of(["hotel.*"]))
    assert {one.name: one.reach.patterns for one in store.list()}["the-investigator"] == ("hotel.*",)
    store.change("the-investigator", role=Role.INVESTIGATOR)
    assert {one.name: one.reach.patterns for one in store.list()}["the-investigator"] == ("hotel.*",)
    store.change("the-investigator", reach=ResourceScope.of(["*"]))
    feed(bench, ("P0043", None, DRIVERS))
    assert "P0043" in visit(bench, Role.INVESTIGATOR).get("/api/v1/findings").text


@pytest.mark.parametrize("pattern", ["", "a b", "[a]", "x" * 201])
def test_an_invalid_resource_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="is not a resource pattern"):
        ResourceScope.of([pattern])


@given(st.lists(st.text(st.sampled_from("ab.*?"), min_size=1, max_size=4), max_size=3), st.text("ab.", max_size=4))
def test_a_stored_scope_covers_the_same_resources(patterns: list[str], resource: str) -> None:
    reach = ResourceScope.of(patterns)
    assert ResourceScope.read(reach.text).covers(resource) == reach.covers(resource)
    assert reach.covers(None) == reach.is_everything == (not patterns or "*" in patterns)
