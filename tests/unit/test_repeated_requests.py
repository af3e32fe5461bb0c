"""Repeated requests: unchanged data is not sent again, and actions are not repeated."""

from __future__ import annotations

import threading
import time
from datetime import date, timedelta

import pytest

from clients import visit
from custodes.accounts.idempotency_store import IdempotencyStore, InProgressError, StoredResponse
from custodes.accounts.roles import Role
from custodes.accounts.store import AccountStore
from harness import MonitorHarness, look_ups

SILENCE = {"group": {"actor": "P1"}, "reason": "a drill", "until": f"{date.today() + timedelta(days=9)}T00:00:00Z"}


def test_unchanged_answers_are_304(bench: MonitorHarness) -> None:
    client = visit(bench)
    first = client.get("/api/v1/findings")
    tag = first.headers["etag"]
    for known in (tag, f'"another", W/{tag}', "*"):
        again = client.get("/api/v1/findings", headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    bench.feed(look_ups(["P0042"], [f"s{n}" for n in range(200)]))
    changed = client.get("/api/v1/findings", headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag
    assert "etag" not in client.get("/api/v1/findings/nobody").headers
    assert client.get("/api/v1/exports/findings").text.count("\n") == len(changed.json()["findings"])


def test_a_repeated_request_runs_once_with_the_same_answer(bench: MonitorHarness, accounts: AccountStore) -> None:
    client = visit(bench, Role.INVESTIGATOR)
    key = {"Idempotency-Key": "a-7"}
    first = client.post("/api/v1/silences", json=SILENCE, headers=key)
    assert first.status_code == 201
    again = client.post("/api/v1/silences", json=SILENCE, headers=key)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    assert len(client.get("/api/v1/silences").json()["silences"]) == 1
    # A key belongs to one request of one user.
    assert client.post("/api/v1/silences", json=SILENCE | {"reason": "another"}, headers=key).status_code == 422
    accounts.add("other", Role.INVESTIGATOR, "correct horse battery", 0)
    other = visit(bench)
    other.post("/sign-in", data={"name": "other", "password": "correct horse battery"})
    assert other.post("/api/v1/silences", json=SILENCE, headers=key).status_code == 201
    assert len(client.get("/api/v1/silences").json()["silences"]) == 2
    # A refused request is refused again, and another user's key gives no permission.
    wrong = client.post("/api/v1/silences", json={}, headers={"Idempotency-Key": "b"})
    assert client.post("/api/v1/silences", json={}, headers={"Idempotency-Key": "b"}).json() == wrong.json()
    viewer = visit(bench, Role.VIEWER)
    assert viewer.post("/api/v1/silences", json=SILENCE, headers=key).status_code == 403
    assert client.post("/api/v1/silences", json=SILENCE, headers={"Idempotency-Key": "x" * 201}).status_code == 400
    assert client.post("/api/v1/silences", content=b" " * (1 << 20) + b"{}", headers=key).status_code == 400


def test_concurrent_repetitions_run_once(bench: MonitorHarness, accounts: AccountStore) -> None:
    answers: list[int] = []

    def send() -> None:
        client = visit(bench, Role.INVESTIGATOR)
        answers.append(client.post("/api/v1/silences", json=SILENCE, headers={"Idempotency-Key": "k"}).status_code)

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {201, 409}
    assert 201 in answers
    assert len(visit(bench, Role.VIEWER).get("/api/v1/silences").json()["silences"]) == 1


def test_an_unanswered_request_can_be_retried(bench: MonitorHarness) -> None:
    store = IdempotencyStore(bench.store.peoples)
    now = int(time.time() * 1e6)
    assert store.begin("eva", "k", "r", now) is None
    with pytest.raises(InProgressError):
        store.begin("eva", "k", "r", now + 59_000_000)
    assert store.begin("eva", "k", "r", now + 61_000_000) is None
    store.keep("eva", "k", None)
    assert store.begin("eva", "k", "r", now + 62_000_000) is None
    store.keep("eva", "k", StoredResponse(201, "{}"))
    assert store.begin("eva", "k", "r", now + 63_000_000) == StoredResponse(201, "{}")
    assert store.begin("eva", "k", "r", now + 90_000_000_000) is None, "a day later it is forgotten"
