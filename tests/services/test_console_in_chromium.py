"""A finding from opening to verdict in a real browser, and its traces in the audit trail.

With CUSTODES_SCREENSHOTS=FOLDER it writes the screenshots of docs/images.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import oidc_provider_mock
import pytest
import yaml
from kafka import KafkaProducer
from playwright.sync_api import Browser, Page, expect, sync_playwright

from commands import custodes
from custodes.evidence.bundle import check
from servers import CUSTODES, SERVICES, Kafka, Server, eventually, free_port, get, missing, program

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]

PASSWORD = "correct horse battery"
ACCOUNTS = {"ines": "investigator", "vera": "viewer", "omar": "auditor"}
PICTURES = os.environ.get("CUSTODES_SCREENSHOTS")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def axe() -> str:
    source = SERVICES / "axe" / "package" / "axe.min.js"
    if not source.exists():
        missing("axe-core")
    return source.read_text()


@pytest.fixture
def topic(kafka: Kafka) -> str:
    name = f"seen-{uuid.uuid4()}"
    kafka.create_topic(name, 1)
    return name


@pytest.fixture
def base(kafka: Kafka, topic: str, tmp_path: Path) -> Iterator[str]:
    """Returns the address of a monitor with accounts that reads its own topic."""
    address = f"127.0.0.1:{free_port()}"
    config = {
        "source": {"kafka": {"bootstrap_servers": [kafka.bootstrap], "topics": [topic], "group_id": topic}},
        "http": {"listen": address},
    }
    path = tmp_path / "custodes.yaml"
    path.write_text(yaml.safe_dump(config))
    for name, role in ACCOUNTS.items():
        done = custodes("accounts", "add", name, "--role", role, "-c", path, stdin=f"{PASSWORD}\n".encode())
        assert done.returncode == 0, done.stderr
    server = Server(tmp_path / "monitor", [CUSTODES, "run", "-c", path])
    server.wait_for("it to be ready", lambda: get(f"http://{address}/-/ready"))
    yield f"http://{address}"
    assert server.stop() == 0
    assert "P0042" not in server.log.read_text(), "the log contains no name"


def look_up(kafka: Kafka, topic: str, actor: str, count: int) -> None:
    """Sends many look-ups of one actor within the last ten minutes."""
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap)
    begin = time.time() - 600
    for n in range(count):
        event = {
            "time": begin + n * 590 / count, "actor": actor, "subject": f"41010519900101{n % 160:04}",
            "resource": "person.identity", "action": "read", "peer_group": "traffic", "app": "desk",
            "client_ip": "10.1.2.3", **({"purpose": f"case-2026-{n:06}"} if n % 3 else {}),
        }  # fmt: skip
        producer.send(topic, json.dumps(event).encode())
    producer.flush()
    producer.close()


def sign_in(page: Page, base: str, name: str) -> None:
    page.goto(base)
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("navigation")).to_be_visible()


def can_be_used(page: Page, axe: str, picture: str) -> None:
    """No serious violation in light and dark mode, and on a phone only tables are wider than the screen."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.evaluate(axe)
        found = page.evaluate("axe.run().then(result => result.violations)")
        serious = [one for one in found if one["impact"] in {"serious", "critical"}]
        said = [(one["id"], one["help"], [node["html"][:120] for node in one["nodes"]]) for one in serious]
        assert not said, f"{picture}, {scheme}: {said}"
        if PICTURES:
            page.screenshot(path=f"{PICTURES}/console-{picture}-{scheme}.png")
    page.emulate_media(color_scheme="light")
    size = page.viewport_size
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360, f"{picture} is wider than a phone"
    assert size is not None
    page.set_viewport_size(size)


def test_a_finding_from_opening_to_verdict(kafka: Kafka, topic: str, base: str, browser: Browser, axe: str) -> None:
    page = browser.new_page(viewport={"width": 1180, "height": 860})
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text) if message.type == "error" else None)
    page.goto(f"{base}/findings?state=open")
    can_be_used(page, axe, "sign-in")
    page.get_by_label("Name").fill("ines")
    page.get_by_label("Password").fill("something else entirely")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("The name or the password is wrong")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    # After sign-in the browser is redirected to the requested page.
    expect(page).to_have_url(f"{base}/findings?state=open")
    page.get_by_role("link", name="Overview").click()
    expect(page.get_by_text("All counts are below")).to_be_visible()

    # The finding appears on the open page without a reload and without names.
    page.evaluate("window.hereAllAlong = true")
    look_up(kafka, topic, "P0042", 320)
    row = page.get_by_role("row").filter(has_text="Bulk lookups")
    expect(row).to_be_visible(timeout=20_000)
    assert page.evaluate("window.hereAllAlong")
    assert "P0042" not in page.content()
    assert "41010519900101" not in page.content(), "a field derived from a name reveals it"
    can_be_used(page, axe, "overview")
    row.get_by_role("link").click()

    # The page has the reason in a sentence, the chart, and the events.
    expect(page.get_by_role("heading", level=1)).to_contain_text("Bulk lookups: actor P0042")
    expect(page.get_by_text("within 1h")).to_be_visible()
    expect(page.get_by_role("img", name="The count rose to")).to_be_visible()
    expect(page.get_by_role("heading", name="Subjects (160)")).to_be_visible()
    assert "410105199001010000" not in page.content()
    can_be_used(page, axe, "finding")
    finding = page.url

    # A subject's page requires a purpose.
    page.get_by_role("heading", name="Subjects").locator("..").get_by_role("link").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Purpose for viewing subject-")
    can_be_used(page, axe, "purpose")
    page.get_by_label("Purpose").fill("is this case explained")
    page.get_by_role("button", name="View").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Subject 41010519900101")
    expect(page.get_by_role("region", name="Look-ups").get_by_role("row")).to_have_count(3)
    can_be_used(page, axe, "subject")
    with page.expect_download() as download:
        page.get_by_role("link", name="Disclosures").click()
    assert "P0042" in Path(download.value.path()).read_text()

    page.goto(finding)
    page.get_by_role("link", name="details").click()
    page.get_by_label("Purpose").fill("is this case explained")
    page.get_by_role("button", name="View").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Actor P0042")
    can_be_used(page, axe, "actor")
    page.get_by_role("link", name="Peers and shared records").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Peers and shared records of P0042")
    expect(page.get_by_role("img", name="The 6 most viewed records")).to_be_visible()
    can_be_used(page, axe, "around")

    # The evidence is available within seconds and can be exported.
    page.goto(finding)
    kept = page.get_by_text("entries in the signed log")

    def is_kept() -> bool:
        page.reload()
        return kept.is_visible()

    eventually("the evidence to be kept", is_kept)
    page.get_by_label("Purpose").fill("the works council asked")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download evidence bundle").click()
    proof = check(Path(download.value.path()))
    assert (proof.events, proof.faults) == (320, [])

    # The finding is acknowledged and closed with a reason.
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.locator(".triage").first).to_have_text("acknowledged")
    page.get_by_role("button", name="Close", exact=True).click()
    assert page.url == finding, "without a verdict it stays where it is"
    page.get_by_label("Verdict").select_option("explained")
    page.get_by_role("button", name="Close", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("A note that explains the verdict")
    page.get_by_role("link", name="Back").click()
    closing = page.locator("form").filter(has=page.get_by_role("button", name="Close", exact=True))
    closing.get_by_role("textbox", name="Reason").fill("an inventory that traffic was asked to make")
    closing.get_by_label("Verdict").select_option("explained")
    closing.get_by_role("button", name="Close").click()
    expect(page.locator(".triage").first).to_have_text("explained")
    expect(page.get_by_text("closed: explained: an inventory")).to_be_visible()
    page.get_by_text("Expected activity").click()
    page.get_by_role("textbox", name="Reason").fill("the inventory continues")
    page.get_by_role("button", name="Close and silence").click()
    page.get_by_role("link", name="Silences").click()
    expect(page.get_by_role("row").filter(has_text="the inventory continues")).to_contain_text("Bulk lookups")
    can_be_used(page, axe, "silences")
    page.get_by_role("link", name="Findings", exact=True).first.click()
    expect(page.get_by_role("row").filter(has_text="Bulk lookups")).to_have_count(0)
    page.get_by_label("Triage").select_option("closed")
    page.get_by_role("button", name="Show").click()
    page.locator("summary").filter(has_text="Saved views").click()
    page.get_by_label("Save these filters as").fill("Done with")
    page.get_by_role("button", name="Save view").click()
    page.get_by_role("link", name="Findings", exact=True).first.click()
    page.get_by_role("link", name="Done with").click()
    expect(page.get_by_role("row").filter(has_text="Bulk lookups")).to_have_count(1)
    can_be_used(page, axe, "findings")
    page.get_by_role("link", name="Cases").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Cases")
    can_be_used(page, axe, "cases")
    page.get_by_role("link", name="Rules").click()
    expect(page.get_by_role("row").filter(has_text="Bulk lookups")).to_contain_text("0%")
    can_be_used(page, axe, "rules")
    page.get_by_role("link", name="Bulk lookups").click()
    expect(page.get_by_role("region", name="Backtest")).to_contain_text("current")
    can_be_used(page, axe, "rule")
    page.get_by_role("link", name="System").click()
    expect(page.get_by_role("row").filter(has_text="source connected")).to_contain_text("1")
    can_be_used(page, axe, "system")
    page.get_by_role("link", name="language and time zone").click()
    can_be_used(page, axe, "preferences")
    page.get_by_label("Language").select_option("zh")
    page.get_by_label("Time zone").select_option("Asia/Shanghai")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("总览")
    expect(page.get_by_role("heading", name="待研判")).to_be_visible()
    can_be_used(page, axe, "overview-zh")
    page.get_by_role("link", name="语言与时区").click()
    page.get_by_label("语言").select_option("en")
    page.get_by_label("时区").select_option("UTC")
    page.get_by_role("button", name="保存").click()
    page.get_by_role("searchbox").fill("P00")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="P0042")).to_be_visible()
    can_be_used(page, axe, "search")
    page.get_by_role("button", name="Sign out").click()

    # The auditor sees all actions, without the names of the people.
    sign_in(page, base, "omar")
    page.get_by_role("link", name="Audit").click()
    told = page.get_by_role("region", name="Audit trail")
    for did in ("sign in", "refused", "search", "acknowledge", "close", "export"):
        expect(told.get_by_role("cell", name=did, exact=True).first).to_be_visible()
    assert told.get_by_role("row").filter(has_text="is this case explained").count() == 4
    assert "P0042" not in page.content()
    can_be_used(page, axe, "audit")
    # The wrong password and the missing note were rejected as expected; there were no blocked resources or errors.
    assert all("401" in text or "400" in text for text in refused), refused
    page.close()


def test_users_without_permission_see_no_names(kafka: Kafka, topic: str, base: str, browser: Browser) -> None:
    page = browser.new_page()
    sign_in(page, base, "vera")
    look_up(kafka, topic, "P0042", 320)
    page.get_by_role("row").filter(has_text="Bulk lookups").get_by_role("link").click(timeout=20_000)
    expect(page.get_by_role("heading", level=1)).to_contain_text("Bulk lookups: actor-")
    expect(page.get_by_role("img", name="The count rose to")).to_be_visible()
    assert "P0042" not in page.content()
    assert not page.get_by_role("button", name="Acknowledge").count()
    assert not page.locator("a[href^='/subjects/'], a[href^='/actors/']").count()
    assert page.goto(f"{base}/audit").status == 403  # type: ignore[union-attr]
    page.close()


def test_the_tutorial_from_the_demo_to_a_closed_finding(browser: Browser, tmp_path: Path) -> None:
    """Follows docs/walk.md from the first command."""
    address = f"127.0.0.1:{free_port()}"
    server = Server(tmp_path / "demo", [CUSTODES, "demo", "--listen", address])
    server.wait_for("the demo", lambda: get(f"http://{address}/-/ready"))
    assert f"Open http://{address}" in server.log.read_text()
    page = browser.new_page()
    page.goto(f"http://{address}")
    # The section of open findings has a heading, before and after the finding has ended.
    expect(page.get_by_role("heading", name="Unreviewed")).to_be_visible()
    page.get_by_role("row").filter(has_text="Bulk lookups").get_by_role("link").first.click(timeout=30_000)
    expect(page.get_by_text("times the threshold")).to_be_visible()
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.locator(".triage").first).to_have_text("acknowledged")
    page.get_by_label("Verdict").select_option("confirmed: the rule found a real case")
    page.get_by_role("button", name="Close", exact=True).click()
    expect(page.locator(".triage").first).to_have_text("confirmed")
    page.get_by_role("link", name="Unreviewed findings").click()
    expect(page.get_by_role("heading", name="Unreviewed")).to_be_visible()
    # The page of a finding about findings links to them.
    page.get_by_role("row").filter(has_text="Several findings of one account").get_by_role("link").first.click(
        timeout=60_000
    )
    counted = page.get_by_role("heading", name="Contributing findings").locator("..")
    counted.get_by_role("row").filter(has_text="Bulk lookups").get_by_role("link").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Bulk lookups")
    page.close()
    assert server.stop() == 0


def test_openid_connect_in_a_browser(tmp_path: Path, browser: Browser) -> None:
    """The provider is another site, so cookies on the redirect back behave differently than in an HTTP client."""
    person = oidc_provider_mock.User(sub="17", claims={"preferred_username": "Eva", "groups": ["privacy-office"]})
    with oidc_provider_mock.run_server_in_thread(user_claims=[person]) as provider:
        address = f"127.0.0.1:{free_port()}"
        (tmp_path / "provider.secret").write_text("a secret\n")
        (tmp_path / "events.jsonl").write_text("")
        oidc = {
            "issuer": f"http://localhost:{provider.server_port}", "client_id": "custodes", "url": f"http://{address}",
            "client_secret_file": "provider.secret", "roles": {"privacy-office": "investigator"},
        }  # fmt: skip
        config = {"source": {"file": {"paths": ["events.jsonl"]}}, "http": {"listen": address, "oidc": oidc}}
        path = tmp_path / "custodes.yaml"
        path.write_text(yaml.safe_dump(config))
        assert custodes("check", "-c", path).returncode == 0
        server = Server(tmp_path / "monitor", [CUSTODES, "run", "-c", path])
        server.wait_for("it to be ready", lambda: get(f"http://{address}/-/healthy"))
        page = browser.new_page()
        # The provider's pages load styles.
        page.route("https://**", lambda route: route.abort())
        page.goto(f"http://{address}/rules")
        page.get_by_role("link", name="Sign in with your organisation").click()
        page.wait_for_url("**/oauth2/authorize**")
        page.get_by_role("button", name="17").click()
        expect(page).to_have_url(f"http://{address}/rules")
        expect(page.get_by_text("eva · investigator")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("link", name="Sign in with your organisation")).to_be_visible()
        page.close()
        assert server.stop() == 0
