"""``custodes alerts``: test receivers, and handle alerts that could not be delivered."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from custodes.alerts.alertmanager import post_alert
from custodes.alerts.delivery_log import Undelivered, forget_undelivered, undelivered_news
from custodes.alerts.http_client import DeliveryRejectedError
from custodes.alerts.receivers import sender_of
from custodes.cli.bootstrap import secrets_of, writer_of
from custodes.cli.findings_session import ConfigPath, FindingsSession, open_session
from custodes.cli.output import stdout, write_json
from custodes.config import Fault, FaultsError
from custodes.config.alerts import AlertmanagerReceiver, Receiver
from custodes.findings import Finding, rfc3339
from custodes.findings.outbox import OutboxEntry
from custodes.rules import load_rules, shipped_pack

app = typer.Typer(help="Test alert receivers, and list, retry or discard undelivered alerts.", no_args_is_help=True)

ReceiverName = Annotated[str, typer.Argument(help="Name of a receiver in the configuration.")]


@app.command("test")
def try_(name: ReceiverName, config: ConfigPath = Path("custodes.yaml")) -> None:
    """Send a test alert to a receiver."""
    now = int(time.time() * 1e6)
    finding = Finding(
        id=str(uuid.uuid4()), rule_id="test", rule="A test of Custodes", level="critical", group={"app": "test"},
        opened_at=now, closed_at=None, held_from=now, held_until=now, peak=1, count=1, threshold=1, keep_open=0,
    )  # fmt: skip
    with open_session(config) as session:
        _send(session, _receiver(session, name), OutboxEntry(0, now, "opened", finding, None))
    stdout.print(f"{name} accepted the alert")


@app.command()
def undelivered(
    json: Annotated[bool, typer.Option("--json", help="JSON instead of text.")] = False,
    config: ConfigPath = Path("custodes.yaml"),
) -> None:
    """List undelivered alerts: refused by the receiver, or not deliverable for too long."""
    with open_session(config) as session:
        pending = undelivered_news(session.store.engine)
    if json:
        write_json([one.as_dict() for one in pending])
        return
    table = Table(box=None, header_style="bold")
    for column in ("receiver", "at", "finding", "what", "why"):
        table.add_column(column, overflow="fold")
    for one in pending:
        finding = one.news["finding"]
        table.add_row(
            one.receiver, rfc3339(one.at), finding["id"][:8], f"{one.news['kind']}: {finding['rule']}", one.why
        )
    stdout.print(table)


@app.command()
def retry(name: ReceiverName, config: ConfigPath = Path("custodes.yaml")) -> None:
    """Send the undelivered alerts of a receiver again, in order. Exit 1 at the first failure."""
    with open_session(config) as session:
        receiver = _receiver(session, name)
        pending = _undelivered(session, name)
        for one in pending:
            _send(session, receiver, _news(one))
            forget_undelivered(session.store.engine, name, one.number)
    stdout.print(f"{len(pending)} sent")


@app.command()
def forget(name: ReceiverName, config: ConfigPath = Path("custodes.yaml")) -> None:
    """Discard the undelivered alerts of a receiver. The findings are kept."""
    with open_session(config) as session:
        pending = _undelivered(session, name)
        for one in pending:
            forget_undelivered(session.store.engine, name, one.number)
    stdout.print(f"{len(pending)} discarded")


def _undelivered(session: FindingsSession, name: str) -> list[Undelivered]:
    return [one for one in undelivered_news(session.store.engine) if one.receiver == name]


def _news(one: Undelivered) -> OutboxEntry:
    return OutboxEntry(**{**one.news, "finding": Finding.read(one.news["finding"])})


def _receiver(session: FindingsSession, name: str) -> Receiver:
    known = session.settings.alerts.receivers
    found = next((one for one in known if one.name == name), None)
    if found is None:
        names = ", ".join(one.name for one in known) or "none"
        raise FaultsError([Fault(f"receiver '{name}' not found; configured: {names}", hint="see alerts.receivers")])
    return found


def _send(session: FindingsSession, receiver: Receiver, news: OutboxEntry) -> None:
    """Sends one alert. Raises ``OSError`` if the receiver does not accept it."""
    settings = session.settings
    rules = load_rules(settings.rules or shipped_pack())
    writer = writer_of(settings, receiver, secrets_of(settings), lambda: rules)
    try:
        if isinstance(receiver, AlertmanagerReceiver):
            post_alert(receiver, writer, news.finding)
            return
        sender = sender_of(receiver, settings.source.kafka)
        try:
            sender.send(writer.message(news))
        finally:
            sender.close()
    except (DeliveryRejectedError, ValueError) as error:
        raise OSError(f"{receiver.name}: {error}") from error
