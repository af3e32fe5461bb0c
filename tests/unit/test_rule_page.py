"""A rule's page: its statistics, and its findings at other thresholds."""

from __future__ import annotations

import re

from starlette.testclient import TestClient

from clients import visit
from custodes.accounts.roles import Role
from custodes.accounts.store import AccountStore
from harness import MonitorHarness, look_ups
from servers import eventually

NUMBER = r'<td class="number">([0-9,]+)[^<]*</td>'
ROW = re.compile(f"<tr[^>]*>{NUMBER}{NUMBER}{NUMBER}")
SUBJECTS = [f"410105{n:012}" for n in range(300)]


def settled(client: TestClient, path: str) -> str:
    """Returns the page after its background job has finished."""

    def shown() -> str | None:
        answer = client.get(path)
        assert answer.status_code == 200
        return None if "refresh" in answer.headers else answer.text

    return eventually("the page to be whole", shown)


def test_a_rule_is_backtested_on_the_latest_events(bench: MonitorHarness, accounts: AccountStore) -> None:
    bench.feed(look_ups(["P0042"], SUBJECTS), look_ups(["P0077"], SUBJECTS[:180], first=301))
    finding = next(one for one in bench.store.page(1000).findings if one.rule == "Bulk lookups")
    client = visit(bench, Role.AUTHOR)
    assert f'href="/rules/{finding.rule_id}"' in client.get("/rules").text
    page = settled(client, f"/rules/{finding.rule_id}")
    assert "Result for the latest 480 events" in page
    rows = {
        int(threshold.replace(",", "")): (int(findings), int(groups))
        for threshold, findings, groups in ROW.findall(page)
    }
    (own,) = re.findall(r">([0-9,]+) \(current\)", page)
    assert rows[int(own)] == (2, 2)
    assert {findings for threshold, (findings, _) in rows.items() if 180 < threshold <= 300} == {1}
    assert not [threshold for threshold in rows if threshold > 300], "nothing is found there"
    assert "P0042" not in page


def test_missing_information_is_stated(bench: MonitorHarness, accounts: AccountStore) -> None:
    client = visit(bench, Role.AUTHOR)
    rules = {rule.title: rule for rule in bench.monitor.rules}
    following = next(rule for rule in rules.values() if rule.follows)
    assert "counts findings of other rules" in settled(client, f"/rules/{following.id}")
    assert "no event that can be counted" in settled(client, f"/rules/{rules['Bulk lookups'].id}")
    assert client.get("/rules/none").status_code == 404
