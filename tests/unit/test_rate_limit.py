"""Rate limits."""

from __future__ import annotations

from starlette.testclient import TestClient

from clients import PASSWORD, visit
from custodes.accounts.roles import Role
from custodes.accounts.store import AccountStore
from custodes.accounts.tokens import TokenStore
from custodes.console import build_app
from custodes.console.middleware.rate_limit import RateLimits
from harness import MonitorHarness


def sparing(bench: MonitorHarness, requests: int = 1000, sign_ins: int = 1000) -> None:
    """Builds the application with limits."""
    bench.app = build_app(
        bench.monitor, secrets=bench.secrets, rates=RateLimits(requests, sign_ins), hosts=["custodes"]
    )  # fmt: skip


def test_sign_in_attempts_are_limited_per_address(bench: MonitorHarness, accounts: AccountStore) -> None:
    sparing(bench, sign_ins=10)
    client = TestClient(bench.app, base_url="http://custodes")
    tries = [client.post("/sign-in", data={"name": f"n{n}", "password": "wrong"}) for n in range(11)]
    assert [one.status_code for one in tries] == [401] * 10 + [429]
    refused = client.post("/sign-in", data={"name": "the-viewer", "password": PASSWORD}, follow_redirects=False)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert "try again in" in refused.text
    assert client.get("/sign-in").status_code == 200, "reading a public page is not a sign-in attempt"
    elsewhere = TestClient(bench.app, base_url="http://custodes", client=("192.0.2.7", 1))
    answer = elsewhere.post("/sign-in", data={"name": "the-viewer", "password": PASSWORD}, follow_redirects=False)
    assert answer.status_code == 303


def test_requests_per_account_are_limited_across_all_ways(bench: MonitorHarness, accounts: AccountStore) -> None:
    sparing(bench, requests=20)
    browser = visit(bench, Role.VIEWER)
    made = TokenStore(bench.store.engine).add("the-viewer", "script", [], 0, 2**60)
    program = TestClient(bench.app, base_url="http://custodes", headers={"authorization": f"Bearer {made}"})
    asked = [(browser, "/"), (program, "/api/v1/status")] * 10
    assert {client.get(path).status_code for client, path in asked} == {200}
    refused = program.get("/api/v1/status")
    assert (refused.status_code, list(refused.json())) == (429, ["detail"])
    assert browser.get("/").status_code == 429
    assert visit(bench, Role.AUDITOR).get("/").status_code == 200, "another account is another's business"


def test_without_accounts_requests_are_not_limited(bench: MonitorHarness) -> None:
    sparing(bench, requests=1)
    client = visit(bench)
    assert {client.get("/api/v1/status").status_code for _ in range(5)} == {200}
