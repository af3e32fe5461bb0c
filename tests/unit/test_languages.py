"""The console's languages: every message is translated, with the same placeholders."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po
from starlette.testclient import TestClient

import custodes
from clients import token, visit
from custodes.accounts.roles import Role
from custodes.accounts.store import AccountStore
from custodes.console.localization import LANGUAGES
from custodes.console.system.view import SECTIONS
from custodes.findings.triage import STATES, VERDICTS
from custodes.rules.model import LEVELS
from harness import MonitorHarness, look_ups

PACKAGE = Path(custodes.__file__).parent
LOCALE = PACKAGE / "console" / "locale"
LOOKED_UP = {
    *STATES, *LEVELS, *SECTIONS, *(role.value for role in Role), *(name.replace("_", " ") for name in VERDICTS),
    *VERDICTS.values(), "live", "ended", "failed", "waiting for a stream", "actor", "subject", "Actor", "Subject",
    "Overview", "Findings", "Cases", "Silences", "Rules", "System", "Audit", "assigned", "reopened", "note", "memory",
    "storm", "Finding not found", "Evidence not found", "Silence not found",
    "View not found", "Rule not found", "read", "search", "export",
    "acknowledge", "close", "reopen", "assign", "silence", "unsilence", "sign in", "sign out", "refused",
    "The name or the password is wrong", "A note that explains the verdict is required", "A verdict is required",
    "Closing requires a verdict, and other changes must not have one", "The change contains nothing to change",
    "A purpose is required",
    "None of your groups has a role here", "subjects", "resources", "actors",
}  # fmt: skip
"""Texts that are translated through a variable."""
PLACE = re.compile(r"%\((\w+)\)s")


def messages() -> Iterator[str]:
    """Returns all texts of the pages."""
    ways = [("**.html", "jinja2"), ("**.py", "python")]
    for _, _, message, _, _ in extract_from_dir(str(PACKAGE), ways, keywords={"_": None, "say": None}):
        assert isinstance(message, str), message
        yield message
    yield from LOOKED_UP


@pytest.mark.parametrize("language", [code for code in LANGUAGES if code != "en"])
def test_every_message_is_translated(language: str) -> None:
    with (LOCALE / f"{language}.po").open("rb") as file:
        known = {str(one.id): str(one.string) for one in read_po(file) if one.id}
    wanted = set(messages())
    assert not sorted(one for one in wanted if not known.get(one)), f"without a translation in {language}.po"
    assert not sorted(set(known) - wanted), "not said any more"
    for message, text in known.items():
        assert set(PLACE.findall(message)) == set(PLACE.findall(text)), message


def test_a_page_uses_the_language_and_time_zone_of_the_reader(bench: MonitorHarness, accounts: AccountStore) -> None:
    bench.feed(look_ups(["P0042"], [f"s{n}" for n in range(200)]))
    with visit(bench, Role.INVESTIGATOR) as client:
        client.headers["Accept-Language"] = "zh-CN,zh;q=0.9,en;q=0.8"
        assert "密码" in client.get("/sign-in").text
        page = client.get("/").text
        assert '<html lang="zh">' in page
        assert "待研判" in page
        opened = re.search(r'<time datetime="([^"]+)">([^<]+)</time>', page)
        assert opened is not None
        assert opened[2].replace(" ", "T") == opened[1][:16], "UTC, as long as nobody says otherwise"
        form = {"token": token(client.get("/preferences").text), "language": "zh", "time_zone": "Asia/Shanghai"}
        assert client.post("/preferences", data=form, follow_redirects=False).status_code == 303
        page = client.get("/").text
        assert "(Asia/Shanghai)" in page
        there = re.search(r'<time datetime="([^"]+)">([^<]+)</time>', page)
        assert there is not None
        assert there[1] == opened[1]
        assert (int(there[2][11:13]) - int(opened[2][11:13])) % 24 == 8
        finding = re.search(r'href="(/findings/[0-9a-f-]{36})"', page)
        assert finding is not None
        assert "1h 内 200 个不同的被查询人，为阈值 150 的 1.3 倍" in client.get(finding[1]).text
        for wrong in ({"language": "xx"}, {"time_zone": "../../etc/passwd"}):
            assert client.post("/preferences", data=form | wrong).status_code == 400
        client.cookies.set("custodes-zone", "../../etc/passwd")
        assert client.get("/").status_code == 200


@pytest.mark.parametrize(("said", "language"), [
    ("", "en"), ("fr", "en"), ("fr, zh-Hans-CN;q=0.8", "zh"), ("zh-TW", "zh"), ("en-GB,zh", "en"), ("*", "en"),
    (";;,", "en"),
])  # fmt: skip
def test_the_first_supported_language_is_used(bench: MonitorHarness, said: str, language: str) -> None:
    client = TestClient(bench.app, base_url="http://custodes", headers={"Accept-Language": said})
    assert f'<html lang="{language}">' in client.get("/findings").text
