"""Saved views: owned by their creators, shared on request."""

from __future__ import annotations

import pytest

from clients import token, visit
from custodes.accounts.roles import Role
from custodes.accounts.store import AccountStore
from custodes.findings.views import MOST_VIEWS, SavedView, SavedViewStore
from harness import MonitorHarness


def test_a_view_is_saved_shown_and_deleted(bench: MonitorHarness, accounts: AccountStore) -> None:
    client = visit(bench, Role.INVESTIGATOR)
    form = {"token": token(client.get("/findings").text), "state": "closed", "level": "high", "rule": "", "name": "Won"}
    kept = client.post("/views", data=form)
    assert str(kept.url).endswith("/findings?state=closed&level=high&rule=")
    assert 'rule=" aria-current="page">Won</a>' in kept.text
    assert "Won" not in visit(bench, Role.VIEWER).get("/findings").text
    assert "already" in client.post("/views", data=form).text
    assert client.post("/views", data=form | {"name": " "}).status_code == 400
    (view,) = SavedViewStore(bench.store.engine).of("the-investigator")
    assert "Won" not in client.post("/views/forget", data={"token": form["token"], "number": view.number}).text
    assert client.post("/views/forget", data={"token": form["token"], "number": view.number}).status_code == 404


def test_a_shared_view_is_visible_to_all_and_deleted_by_its_owner(
    bench: MonitorHarness, accounts: AccountStore
) -> None:
    client, viewer = visit(bench, Role.INVESTIGATOR), visit(bench, Role.VIEWER)
    made = client.post("/api/v1/views", json={"name": "Ours", "state": "acknowledged", "is_shared": True})
    assert (made.status_code, made.json()["by"]) == (201, "the-investigator")
    assert viewer.get("/api/v1/views").json() == {"views": [made.json()]}
    page = viewer.get("/findings").text
    assert "Ours</a> <small>the-investigator</small>" in page
    assert "Forget Ours" not in page
    number = made.json()["number"]
    assert viewer.delete(f"/api/v1/views/{number}").status_code == 404
    assert viewer.post("/views/forget", data={"token": token(page), "number": number}).status_code == 404
    assert client.delete(f"/api/v1/views/{number}").status_code == 204
    assert viewer.get("/api/v1/views").json() == {"views": []}


def test_the_number_of_views_is_limited(bench: MonitorHarness) -> None:
    store = SavedViewStore(bench.store.engine)
    for number in range(MOST_VIEWS):
        store.save(SavedView(f"view {number}", "ines"))
    with pytest.raises(ValueError, match="delete one first"):
        store.save(SavedView("another", "ines"))
    store.save(SavedView("view 1", "omar"))
