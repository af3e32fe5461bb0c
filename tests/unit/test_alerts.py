"""Alerts: each is delivered, in order, through any failure, and contains only what its receiver may know."""

from __future__ import annotations

import base64
import json
import os
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from py_ocsf_models.events.findings.detection_finding import DetectionFinding
from standardwebhooks import Webhook

from custodes.accounts.pseudonyms import Pseudonyms
from custodes.alerts import formats
from custodes.alerts.alertmanager import AlertmanagerNotifier
from custodes.alerts.delivery_log import DeliveryLog, LeaseLostError, undelivered_news
from custodes.alerts.dispatcher import Dispatcher, OrderedNotifier
from custodes.alerts.http_client import DeliveryRejectedError, HttpClient
from custodes.alerts.message import Message, MessageWriter
from custodes.alerts.receivers import MessageSender, sender_of
from custodes.config.alerts import (
    AlertmanagerReceiver,
    EmailReceiver,
    PagerDutyReceiver,
    SlackReceiver,
    TeamsReceiver,
    WebhookReceiver,
)
from custodes.findings.outbox import OutboxStore
from custodes.findings.triage import TriageChange, TriageStore
from harness import MonitorHarness, look_ups
from recording_server import RecordingServer

SECOND = 1_000_000
MINUTE = 60 * SECOND
SECRET = base64.b64encode(b"a secret of thirty-two bytes now").decode()


class FakeReceiver:
    """A receiver, its dispatcher thread, and a simulated clock."""

    def __init__(
        self, bench: MonitorHarness, sender: MessageSender, *, level: str = "low", names: bool = False
    ) -> None:
        self.now = time.time()
        self.ledger = DeliveryLog(bench.store.peoples, "the-receiver", "this process")
        writer = MessageWriter(
            Pseudonyms(bench.secrets, names), lambda: bench.monitor.rules, "https://custodes.example"
        )
        queue = OrderedNotifier(self.ledger, sender, writer, level, timedelta(days=3))
        self.ledger.register()
        self.courier = Dispatcher("the-receiver", queue, self.ledger, clock=lambda: self.now)


def webhook(bench: MonitorHarness, ear: RecordingServer, tmp_path: Path, **settings: Any) -> FakeReceiver:
    (tmp_path / "secret").write_text(f"whsec_{SECRET}\n")
    receiver = WebhookReceiver(kind="webhook", name="hook", url=f"{ear.url}/hook", secret=tmp_path / "secret")
    return FakeReceiver(bench, sender_of(receiver, None), **settings)


def insiders(bench: MonitorHarness, count: int = 1, at: float = 0) -> None:
    bench.now += at
    names = [f"P{n:04}" for n in range(count)]
    bench.feed(look_ups(names, [f"s{n}" for n in range(150)], at=at))


def end_all(bench: MonitorHarness) -> None:
    """Advances the clock; findings end."""
    bench.now += 86_400
    bench.feed(look_ups(["nobody"], ["x"], at=86_400))


def kinds(ear: RecordingServer) -> list[str]:
    return [heard.json["type"] for heard in ear.heard]


def test_notifications_are_sent_in_order(bench: MonitorHarness, ear: RecordingServer, tmp_path: Path) -> None:
    receiver = webhook(bench, ear, tmp_path)
    insiders(bench)
    finding = bench.store.page(level="high").findings[0]
    triage = TriageStore(bench.store.peoples)
    triage.change(finding.id, TriageChange(state="acknowledged", assignee="ines"), "ines", 0)
    triage.change(finding.id, TriageChange(note="a call"), "ines", 0)
    end_all(bench)
    triage.change(finding.id, TriageChange(state="closed", verdict="explained", note="an audit"), "ines", 0)
    receiver.courier.step()
    receiver.courier.step()
    told = [heard.json for heard in ear.heard if heard.json["data"]["finding"]["id"] == finding.id]
    assert [one["type"] for one in told] == [
        "finding.opened", "finding.acknowledged", "finding.closed", "finding.judged",
    ]  # fmt: skip
    assert told[0]["data"]["link"] == f"https://custodes.example/findings/{finding.id}"
    assert told[0]["data"]["summary"].startswith("150 different subjects within 1h, 1.0 times the threshold of 150.")
    assert (told[0]["data"]["finding"]["closed_at"], told[2]["data"]["finding"]["closed_at"] is None) == (None, False)
    assert receiver.courier.waiting == 0


def test_a_signature_follows_standard_webhooks(bench: MonitorHarness, ear: RecordingServer, tmp_path: Path) -> None:
    receiver = webhook(bench, ear, tmp_path)
    insiders(bench)
    receiver.courier.step()
    (heard,) = ear.heard
    Webhook(f"whsec_{SECRET}").verify(heard.body, dict(heard.headers))
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(f"whsec_{SECRET}").verify(heard.body.replace(b"150", b"151"), dict(heard.headers))
    for wrong in ("whsec_!", "whsec_c2hvcnQ="):
        (tmp_path / "secret").write_text(wrong)
        settings = WebhookReceiver(kind="webhook", name="hook", url=ear.url, secret=tmp_path / "secret")
        with pytest.raises(ValueError, match="secret"):
            sender_of(settings, None)


def test_a_receiver_gets_everything_once_after_an_outage(
    bench: MonitorHarness, ear: RecordingServer, tmp_path: Path
) -> None:
    receiver = webhook(bench, ear, tmp_path)
    ear.answer = lambda heard: 503
    insiders(bench, 20)
    end_all(bench)
    tries = []
    for _ in range(12):
        receiver.courier.step()
        tries.append(len(ear.heard))
        receiver.now += receiver.courier.wait_seconds()
    # Each attempt is one request: an unreachable receiver is not tried for each notification.
    assert tries == list(range(1, 13))
    assert receiver.courier.failures == 12
    assert 48 <= receiver.courier.wait_seconds() <= 72
    ear.heard.clear()
    ear.answer = lambda heard: 204
    receiver.courier.step()
    assert (receiver.courier.failures, receiver.courier.waiting) == (0, 0)
    ids = [heard.headers["webhook-id"] for heard in ear.heard]
    assert len(ids) == len(set(ids)) == len(OutboxStore(bench.store.engine).after(0, 1000))
    found = bench.store.page(1000).findings
    assert len(found) > 20
    for finding in found:
        its = [heard.json["type"] for heard in ear.heard if heard.json["data"]["finding"]["id"] == finding.id]
        assert its == ["finding.opened"] + ["finding.closed"] * (finding.closed_at is not None)
    receiver.courier.step()
    assert len(ear.heard) == len(ids)


def test_a_resent_alert_has_the_same_id(bench: MonitorHarness, ear: RecordingServer, tmp_path: Path) -> None:
    receiver = webhook(bench, ear, tmp_path)
    insiders(bench, 2)

    def dies(news: object) -> None:
        raise KeyboardInterrupt

    told, receiver.ledger.told = receiver.ledger.told, dies  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        receiver.courier.step()
    receiver.ledger.told = told  # type: ignore[method-assign]
    receiver.courier.step()
    first, again, second = (heard.headers["webhook-id"] for heard in ear.heard)
    assert first == again != second


def test_refused_alerts_are_set_aside_and_others_continue(
    bench: MonitorHarness, ear: RecordingServer, tmp_path: Path
) -> None:
    receiver = webhook(bench, ear, tmp_path)
    insiders(bench, 3)
    second = OutboxStore(bench.store.engine).after(0, 10)[1]
    ear.answer = lambda heard: 422 if heard.json["data"]["finding"]["id"] == second.finding.id else 200
    for _ in range(3):
        receiver.courier.step()
    assert (receiver.courier.waiting, receiver.courier.undelivered) == (0, 1)
    (aside,) = undelivered_news(bench.store.engine)
    assert (aside.as_dict()["finding"], aside.as_dict()["kind"]) == (second.finding.id, "opened")
    assert "answers 422" in aside.why
    assert len(ear.heard) == 5


def test_expired_alerts_are_set_aside(bench: MonitorHarness, ear: RecordingServer, tmp_path: Path) -> None:
    receiver = webhook(bench, ear, tmp_path)
    ear.answer = lambda heard: 500
    insiders(bench)
    receiver.courier.step()
    assert receiver.courier.waiting == 1
    receiver.now += 3 * 86_400 + 1
    receiver.courier.step()
    assert (receiver.courier.waiting, receiver.courier.undelivered) == (0, 1)


def test_a_new_receiver_gets_no_earlier_notifications(
    bench: MonitorHarness, ear: RecordingServer, tmp_path: Path
) -> None:
    insiders(bench)
    receiver = webhook(bench, ear, tmp_path)
    receiver.courier.step()
    assert ear.heard == []


def test_findings_below_the_level_are_not_sent(bench: MonitorHarness, ear: RecordingServer, tmp_path: Path) -> None:
    receiver = webhook(bench, ear, tmp_path, level="critical")
    insiders(bench)
    receiver.courier.step()
    assert (ear.heard, receiver.courier.waiting) == ([], 0)


def test_one_process_at_a_time_sends_to_a_receiver(bench: MonitorHarness, ear: RecordingServer, tmp_path: Path) -> None:
    receiver = webhook(bench, ear, tmp_path)
    other = DeliveryLog(bench.store.peoples, "the-receiver", "another process")
    receiver.courier.step()
    now = int(receiver.now * 1e6)
    assert not other.hold(now)
    insiders(bench)
    assert other.hold(now + 31 * SECOND)
    with pytest.raises(LeaseLostError):
        receiver.ledger.told(receiver.ledger.untold(1)[0])
    receiver.courier.step()
    assert ear.heard == []
    other.release()
    receiver.courier.step()
    assert len(ear.heard) == 1


@pytest.mark.parametrize("names", [False, True])
def test_names_are_sent_only_to_permitted_receivers(
    bench: MonitorHarness, ear: RecordingServer, tmp_path: Path, names: bool
) -> None:
    receiver = webhook(bench, ear, tmp_path, names=names)
    insiders(bench)
    finding = bench.store.page().findings[0]
    TriageStore(bench.store.peoples).change(finding.id, TriageChange(state="acknowledged"), "ines", 0)
    receiver.courier.step()
    said = b"".join(heard.body for heard in ear.heard)
    pseudonym = bench.secrets.pseudonym("actor", "P0000")
    assert (b"P0000" in said, b'"ines"' in said) == (names, names)
    assert (pseudonym.encode() in said) == (not names)


def test_a_failed_transaction_writes_no_notification(bench: MonitorHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("the power fails")

    with monkeypatch.context() as context:
        context.setattr("custodes.findings.upsert.record", fails)
        with pytest.raises(RuntimeError):
            insiders(bench)
    assert bench.store.page().findings == []
    assert OutboxStore(bench.store.engine).latest() == 0


# Alertmanager; the real one is in tests/services/test_alerts_outage.py.


class FakeAlertmanager:
    """An Alertmanager receiver and its clock."""

    def __init__(self, bench: MonitorHarness, urls: list[str], **settings: Any) -> None:
        self.now = int(time.time() * 1e6)
        self.ledger = DeliveryLog(bench.store.peoples, "alertmanager", "this process")
        self.ledger.register()
        self.ledger.hold(self.now)
        writer = MessageWriter(
            Pseudonyms(bench.secrets, False), lambda: bench.monitor.rules, "https://custodes.example"
        )
        chosen = AlertmanagerReceiver(kind="alertmanager", name="alertmanager", urls=urls, **settings)
        self.told = AlertmanagerNotifier(chosen, self.ledger, writer)

    def step(self, seconds: float = 0) -> None:
        self.now += int(seconds * SECOND)
        self.told.step(self.now)


def is_resolved(alert: dict[str, Any], now: int) -> bool:
    ends = time.strptime(alert["endsAt"][:19], "%Y-%m-%dT%H:%M:%S")
    return int(time.mktime(ends) - time.timezone) * SECOND <= now


def test_an_alert_is_resent_until_its_finding_ends(bench: MonitorHarness, ear: RecordingServer) -> None:
    firing = FakeAlertmanager(bench, [ear.url])
    insiders(bench)
    firing.step()
    (alert,) = ear.heard[-1].json
    assert alert["labels"]["rule"] == "Bulk lookups"
    assert alert["labels"]["who"] == bench.secrets.pseudonym("actor", "P0000")
    assert "P0000" not in json.dumps(alert)
    assert not is_resolved(alert, firing.now + 3 * MINUTE)
    firing.step(30)
    assert len(ear.heard) == 1
    firing.step(31)
    firing.step(1)
    assert len(ear.heard) == 2
    end_all(bench)
    # The alert was sent for one minute, so it fires for four more.
    firing.step(61)
    assert not is_resolved(ear.heard[-1].json[0], firing.now)
    firing.step(240)
    assert is_resolved(ear.heard[-1].json[0], firing.now)
    heard = len(ear.heard)
    firing.step(600)
    assert len(ear.heard) == heard


def test_a_finding_that_ended_during_an_outage_still_fires(bench: MonitorHarness, ear: RecordingServer) -> None:
    firing = FakeAlertmanager(bench, [ear.url])
    ear.answer = lambda heard: 503
    insiders(bench)
    with pytest.raises(OSError, match="answers 503"):
        firing.step()
    end_all(bench)
    with pytest.raises(OSError, match="answers 503"):
        firing.step(600)
    ear.answer, ear.heard = lambda heard: 200, []
    firing.step(1)
    (alert,) = ear.heard[-1].json
    assert not is_resolved(alert, firing.now)
    firing.step(301)
    assert is_resolved(ear.heard[-1].json[0], firing.now)


def test_an_alert_can_fire_until_the_finding_is_closed(bench: MonitorHarness, ear: RecordingServer) -> None:
    firing = FakeAlertmanager(bench, [ear.url], until="judged")
    insiders(bench)
    firing.step()
    end_all(bench)
    firing.step(3600)
    assert not is_resolved(ear.heard[-1].json[0], firing.now)
    finding = bench.store.page(level="high").findings[0]
    TriageStore(bench.store.peoples).change(finding.id, TriageChange(state="closed", verdict="confirmed"), "ines", 0)
    firing.step(1)
    assert is_resolved(ear.heard[-1].json[0], firing.now)
    TriageStore(bench.store.peoples).change(finding.id, TriageChange(state="open"), "omar", 0)
    firing.step(1)
    assert not is_resolved(ear.heard[-1].json[0], firing.now)


def test_one_reachable_alertmanager_is_enough(bench: MonitorHarness, ear: RecordingServer) -> None:
    firing = FakeAlertmanager(bench, ["http://127.0.0.1:1", ear.url])
    insiders(bench)
    firing.step()
    assert len(ear.heard) == 1


# Formats of other systems.


def message(bench: MonitorHarness, name: str = "P0000", kind: str = "opened") -> Message:
    bench.feed(look_ups([name], [f"s{n}" for n in range(150)]))
    finding = bench.store.page(group={"actor": name}).findings[0]
    news = next(one for one in OutboxStore(bench.store.engine).after(0, 100) if one.finding.id == finding.id)
    writer = MessageWriter(Pseudonyms(bench.secrets, True), lambda: bench.monitor.rules, "https://custodes.example")
    return Message(**{**vars(writer.message(news)), "kind": kind})


HOSTILE = "<!channel> [free](https://evil.example) *x* @all\r\nBcc: all@example.org"


def test_a_name_is_escaped_in_slack_and_teams(bench: MonitorHarness) -> None:
    one = message(bench, HOSTILE)
    slack = json.loads(formats.slack(one)[0])
    assert "<!channel>" not in slack["text"]
    assert "&lt;!channel&gt;" in slack["text"]
    texts = [block["text"]["type"] for block in slack["blocks"] if "text" in block]
    assert set(texts) == {"plain_text"}
    assert {field["type"] for block in slack["blocks"] for field in block.get("fields", [])} == {"plain_text"}
    card = json.loads(formats.teams(one)[0])["attachments"][0]["content"]
    assert r"\[free\]\(https://evil.example\)" in card["body"][0]["text"]
    assert card["actions"][0]["url"] == one.link


@pytest.mark.parametrize(
    ("kind", "until", "action"),
    [
        ("opened", "judged", "trigger"),
        ("reopened", "judged", "trigger"),
        ("acknowledged", "judged", "acknowledge"),
        ("judged", "judged", "resolve"),
        ("merged", "judged", "resolve"),
        ("closed", "judged", None),
        ("closed", "ended", "resolve"),
    ],
)
def test_a_finding_is_a_pagerduty_incident(bench: MonitorHarness, kind: str, until: str, action: str | None) -> None:
    sent = formats.pagerduty(message(bench, kind=kind), "the-key", until)
    event = None if sent is None else json.loads(sent[0])
    assert (None if event is None else event["event_action"]) == action
    if event is not None:
        assert event["dedup_key"] == bench.store.page().findings[0].id
        assert event["payload"]["severity"] == "error"


@pytest.mark.parametrize("kind", ["opened", "acknowledged", "closed", "judged", "merged", "reopened"])
def test_a_detection_finding_follows_ocsf(bench: MonitorHarness, kind: str) -> None:
    event = json.loads(formats.ocsf(message(bench, kind=kind)))
    DetectionFinding.model_validate(event)
    assert (event["class_uid"], event["type_uid"]) == (2004, 200400 + event["activity_id"])
    assert event["evidences"][0]["actor"]["user"]["name"] == "P0000"


@pytest.mark.parametrize("kind", [SlackReceiver, TeamsReceiver, PagerDutyReceiver])
def test_each_alert_is_routed_to_its_receiver(
    bench: MonitorHarness, ear: RecordingServer, tmp_path: Path, kind: Any
) -> None:
    (tmp_path / "url").write_text(f"{ear.url}/T0/secret\n")
    (tmp_path / "key").write_text("the-key\n")
    place: dict[str, Any] = {"url_file": tmp_path / "url"}
    if kind is PagerDutyReceiver:
        place = {"key_file": tmp_path / "key", "url": f"{ear.url}/T0/secret"}
    name = kind.__name__.removesuffix("Receiver").lower()
    sender = sender_of(kind(kind=name, name="one", **place), None)
    sender.send(message(bench))
    sender.close()
    assert ear.heard[0].path == "/T0/secret"
    assert ear.heard[0].json


class Postman:
    """The SMTP server."""

    def __init__(self) -> None:
        self.mails: list[Envelope] = []
        self.answer = "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - its name there
        if self.answer.startswith("250"):
            self.mails.append(envelope)
        return self.answer


@pytest.fixture
def post() -> Iterator[tuple[Postman, str]]:
    postman = Postman()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = Controller(postman, hostname="127.0.0.1", port=port)
    controller.start()
    yield postman, f"127.0.0.1:{port}"
    controller.stop()


def test_a_name_cannot_end_a_mail_header(bench: MonitorHarness, post: tuple[Postman, str]) -> None:
    postman, server = post
    settings = EmailReceiver(
        kind="email", name="mail", server=server, sender="custodes@example.org", to=["soc@example.org"], starttls=False
    )
    sender = sender_of(settings, None)
    sender.send(message(bench, HOSTILE))
    (mail,) = postman.mails
    assert isinstance(mail.content, bytes)
    assert mail.rcpt_tos == ["soc@example.org"]
    head, _, text = mail.content.decode().replace("\r\n", "\n").partition("\n\n")
    assert "\nBcc:" not in head
    assert "within 1h, 1.0 times the threshold of 150" in text
    assert "https://custodes.example/findings/" in text
    postman.answer = "451 later"
    with pytest.raises(OSError, match="451"):
        sender.send(message(bench))
    postman.answer = "554 never"
    with pytest.raises(DeliveryRejectedError, match="554"):
        sender.send(message(bench))
    with pytest.raises(OSError, match="STARTTLS"):
        sender_of(settings.model_copy(update={"starttls": True}), None).send(message(bench))


# Alerts are sent only to the configured address.


def test_redirects_are_not_followed(ear: RecordingServer) -> None:
    ear.answer = lambda heard: 302
    with pytest.raises(OSError, match="answers 302"):
        HttpClient(f"{ear.url}/hook").post(b"{}", {})
    assert [heard.path for heard in ear.heard] == ["/hook"]


@pytest.mark.parametrize("address", ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "0.0.0.0", "224.0.0.1"])
def test_link_local_addresses_are_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    found = [(family, socket.SOCK_STREAM, 6, "", (address, 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(OSError, match="alerts are never sent"):
        HttpClient("http://metadata.example/latest").post(b"{}", {})


def test_the_checked_address_is_the_connected_one(monkeypatch: pytest.MonkeyPatch, ear: RecordingServer) -> None:
    """A name that resolves to another address the second time is resolved only once."""
    asked = []
    real = socket.getaddrinfo

    def once(host: str, *arguments: Any, **named: Any) -> Any:
        asked.append(host)
        return real("127.0.0.1" if host == "hooks.example" else host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", once)
    HttpClient(ear.url.replace("127.0.0.1", "hooks.example") + "/hook").post(b"{}", {})
    assert asked.count("hooks.example") == 1
    assert ear.heard[0].headers["Host"].startswith("hooks.example:")


def test_a_proxy_from_the_environment_is_ignored(monkeypatch: pytest.MonkeyPatch, ear: RecordingServer) -> None:
    monkeypatch.setitem(os.environ, "HTTP_PROXY", "http://127.0.0.1:1")
    HttpClient(f"{ear.url}/hook").post(b"{}", {})
    assert len(ear.heard) == 1
    with pytest.raises(ValueError, match="is not an http or https URL"):
        HttpClient("file:///etc/passwd")
