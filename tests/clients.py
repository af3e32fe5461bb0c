"""Browsers and programs that use a scripted monitor."""

from __future__ import annotations

import re

from starlette.testclient import TestClient

from custodes.accounts.roles import Role
from custodes.accounts.store import AccountStore
from harness import MonitorHarness

PASSWORD = "correct horse battery"


def add_accounts(bench: MonitorHarness) -> AccountStore:
    """Adds one account per role, named ``the-viewer`` and so on."""
    store = AccountStore(bench.store.engine)
    for role in Role:
        store.add(f"the-{role}", role, PASSWORD, 0)
    return store


def visit(bench: MonitorHarness, role: Role | None = None) -> TestClient:
    """Returns a browser, signed in if a role is given."""
    client = TestClient(bench.app, base_url="http://custodes")
    if role is not None:
        answer = client.post("/sign-in", data={"name": f"the-{role}", "password": PASSWORD}, follow_redirects=False)
        assert answer.status_code == 303
    return client


def token(page: str) -> str:
    """Returns the hidden fields of a page's forms."""
    found = re.search(r'name="token" value="([0-9a-f]{64})"', page)
    assert found
    return found[1]
