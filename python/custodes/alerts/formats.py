"""Message formats: Standard Webhooks, Slack, Teams, PagerDuty, OCSF, e-mail."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

import jinja2
import orjson

from custodes import __version__
from custodes.alerts.message import Message
from custodes.findings import rfc3339

_texts = jinja2.Environment(  # noqa: S701 - what it writes is no markup
    loader=jinja2.PackageLoader("custodes.alerts"),
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)

EncodedMessage = tuple[bytes, Mapping[str, str]]
"""A body and its headers."""


def _json(data: Any) -> bytes:
    return orjson.dumps(data)


def webhook(message: Message, secret: bytes | None, now: int) -> EncodedMessage:
    """Signs a payload as specified by https://www.standardwebhooks.com; ``now`` is in seconds."""
    body = _json(message.as_dict())
    headers = {"Content-Type": "application/json", "webhook-id": message.id, "webhook-timestamp": str(now)}
    if secret is not None:
        signed = hmac.digest(secret, f"{message.id}.{now}.".encode() + body, hashlib.sha256)
        headers["webhook-signature"] = f"v1,{base64.b64encode(signed).decode()}"
    return body, headers


def slack(message: Message) -> EncodedMessage:
    """Returns the payload of an incoming webhook of Slack or a compatible service."""
    fields = [{"type": "plain_text", "text": f"{name}\n{value}"[:2000]} for name, value in _facts(message).items()]
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": message.title[:150]}},
        {"type": "section", "text": {"type": "plain_text", "text": message.reason[:3000]}, "fields": fields[:10]},
    ]
    if message.link is not None:
        button = {"type": "button", "text": {"type": "plain_text", "text": "Look at it"}, "url": message.link}
        blocks.append({"type": "actions", "elements": [button]})
    # Fallback text in Slack markup, for clients that show no blocks.
    text = message.title.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _json({"text": text, "blocks": blocks}), {"Content-Type": "application/json"}


def teams(message: Message) -> EncodedMessage:
    """Returns an Adaptive Card for a workflow of Teams."""
    facts = [{"title": name, "value": _no_markdown(value)} for name, value in _facts(message).items()]
    body = [
        {"type": "TextBlock", "size": "Large", "weight": "Bolder", "wrap": True, "text": _no_markdown(message.title)},
        {"type": "TextBlock", "wrap": True, "text": _no_markdown(message.reason)},
        {"type": "FactSet", "facts": facts},
    ]
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body,
    }
    if message.link is not None:
        card["actions"] = [{"type": "Action.OpenUrl", "title": "Look at it", "url": message.link}]
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    return _json({"type": "message", "attachments": [attachment]}), {"Content-Type": "application/json"}


_URGENCY = {"critical": "critical", "high": "error", "medium": "warning", "low": "info", "informational": "info"}


def pagerduty(message: Message, key: str, until: str) -> EncodedMessage | None:
    """Returns an event of PagerDuty's Events API v2, or ``None`` for an entry that changes no incident. ``until`` says
    whether an incident ends when its finding has ``ended`` or was ``judged``."""
    ends = {"judged", "merged"} | ({"closed"} if until == "ended" else set())
    if message.kind in ends:
        action = "resolve"
    elif message.kind == "acknowledged":
        action = "acknowledge"
    elif message.kind in {"opened", "reopened"}:
        action = "trigger"
    else:
        return None
    payload = {
        "summary": message.title[:1024],
        "source": "custodes",
        "severity": _URGENCY[message.finding.level],
        "timestamp": rfc3339(message.at),
        "class": message.finding.rule_id,
        "custom_details": _facts(message) | {"why": message.reason},
    }
    event: dict[str, Any] = {"routing_key": key, "event_action": action, "dedup_key": message.finding.id}
    event |= {"payload": payload, "client": "Custodes"}
    if message.link is not None:
        event |= {"client_url": message.link, "links": [{"href": message.link, "text": "Look at it"}]}
    return _json(event), {"Content-Type": "application/json"}


def email(message: Message, sender: str, to: list[str]) -> EmailMessage:
    """Returns a mail; all mails about one finding form one conversation."""
    mail = EmailMessage()
    mail["From"], mail["To"] = sender, ", ".join(to)
    mail["Subject"] = _one_line(f"[{message.finding.level}] {message.title}")
    mail["Date"] = format_datetime(message.time)
    domain = sender.rpartition("@")[2].rstrip(">") or "localhost"
    mail["Message-ID"] = f"<{message.id}@{domain}>"
    mail["References"] = f"<{message.finding.id}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(_texts.get_template("mail.txt").render(message=message, facts=_facts(message)))
    return mail


_SEVERITY = {"informational": 1, "low": 2, "medium": 3, "high": 4, "critical": 5}
_ACTIVITY = {"opened": 1, "reopened": 1, "acknowledged": 2, "closed": 2, "merged": 3, "judged": 3}
_STATUS = {"opened": 1, "reopened": 1, "closed": 1, "acknowledged": 2, "merged": 4, "judged": 4}


def ocsf(message: Message) -> bytes:
    """Returns a Detection Finding of OCSF 1.3, class 2004."""
    finding = message.finding
    activity = _ACTIVITY[message.kind]
    event: dict[str, Any] = {
        "class_uid": 2004,
        "class_name": "Detection Finding",
        "category_uid": 2,
        "category_name": "Findings",
        "activity_id": activity,
        "activity_name": {1: "Create", 2: "Update", 3: "Close"}[activity],
        "type_uid": 2004 * 100 + activity,
        "time": message.at // 1000,
        "severity_id": _SEVERITY[finding.level],
        "severity": finding.level.capitalize(),
        "status_id": _STATUS[message.kind],
        "message": message.title,
        "count": finding.count,
        "start_time": finding.opened_at // 1000,
        "metadata": {
            "version": "1.3.0",
            "uid": message.id,
            "product": {"name": "Custodes", "vendor_name": "Custodes", "version": __version__},
        },
        "finding_info": {
            "uid": finding.id,
            "title": finding.rule,
            "desc": message.reason,
            "created_time": finding.opened_at // 1000,
            "analytic": {"type_id": 1, "type": "Rule", "uid": finding.rule_id, "name": finding.rule},
        },
        "unmapped": {"group": finding.shown, "peak": finding.peak, "threshold": finding.threshold},
    }
    if "actor" in finding.group:
        actor = {"name": finding.shown["actor"]}
        event["evidences"] = [{"actor": {"user": actor}}]
    if finding.closed_at is not None:
        event["end_time"] = finding.closed_at // 1000
    if message.link is not None:
        event["finding_info"]["src_url"] = message.link
    return _json(event)


def _facts(message: Message) -> dict[str, str]:
    finding = message.finding
    facts = {
        "Who": message.who,
        "Level": finding.level,
        "Opened": str(rfc3339(finding.opened_at)),
        "Peak": f"{finding.peak:,}",
        "Threshold": f"{finding.threshold:,}",
    }
    if finding.closed_at is not None:
        facts["Ended"] = str(rfc3339(finding.closed_at))
    if message.by is not None:
        facts["By"] = message.by
    return facts


def _one_line(text: str) -> str:
    """Removes line breaks, which would end a header."""
    return re.sub(r"\s+", " ", text)[:200]


def _no_markdown(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~-])", r"\\\1", text)
