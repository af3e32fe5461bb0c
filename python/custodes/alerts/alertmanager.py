"""Alertmanager: firing alerts are re-sent regularly, because Alertmanager expires them; resolved alerts are sent once.

An alert that began and ended during an outage is still sent: it fires for a while first, because Alertmanager sends no
notification for an alert that is already resolved.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import orjson

from custodes.alerts.delivery_log import DeliveryLog, FiringAlert
from custodes.alerts.http_client import DeliveryRejectedError, HttpClient
from custodes.alerts.message import MessageWriter
from custodes.config.alerts import AlertmanagerReceiver
from custodes.findings import Finding, rfc3339
from custodes.findings.wording import reason
from custodes.rules.model import LEVELS

_AT_ONCE = 200
_FORGOTTEN_AFTER = 4
"""Lifetime of an alert in Alertmanager without a re-send, in re-send intervals."""


class AlertmanagerNotifier:
    """One receiver: a cluster of Alertmanagers; every member gets every alert."""

    def __init__(self, settings: AlertmanagerReceiver, ledger: DeliveryLog, writer: MessageWriter) -> None:
        """Raises ``ValueError`` for an invalid URL."""
        self._settings = settings
        self._ledger = ledger
        self._writer = writer
        self._webs = _members(settings)
        self._resend = settings.resend // timedelta(microseconds=1)
        self._least_firing = settings.least_firing // timedelta(microseconds=1)
        self._ends = frozenset({"judged", "merged"} | ({"closed"} if settings.until == "ended" else set()))
        self._told_at = 0

    def step(self, now: int) -> bool:
        """Sends new alerts and firing ones due again at ``now``, in microseconds. Returns whether any was new.

        Raises ``OSError`` if no member accepts them, :class:`~custodes.alerts.delivery_log.LeaseLostError`, and the
        database's errors.
        """
        news = self._ledger.untold(_AT_ONCE)
        if news:
            least = LEVELS.index(self._settings.level)
            wanted = [LEVELS.index(one.finding.level) >= least for one in news]
            self._ledger.take_firing(news, wanted, self._ends)
        alerts = self._ledger.firing()
        over = [one for one in alerts if self._is_over(one, now)]
        is_time = now - self._told_at >= self._resend
        fresh = [one for one in alerts if one.since is None or (is_time and not self._is_over(one, now))]
        if fresh or over:
            still = [_alert(self._writer, one.finding, now + _FORGOTTEN_AFTER * self._resend) for one in fresh]
            gone = [_alert(self._writer, one.finding, min(one.ended_at or now, now)) for one in over]
            _post(self._webs, still + gone)
            self._ledger.fires(fresh, now)
            self._ledger.resolved(over)
        if is_time:
            self._told_at = now
        return len(news) == _AT_ONCE

    def _is_over(self, one: FiringAlert, now: int) -> bool:
        return one.ended_at is not None and one.since is not None and now - one.since >= self._least_firing

    def close(self) -> None:
        for web in self._webs:
            web.close()


def post_alert(settings: AlertmanagerReceiver, writer: MessageWriter, finding: Finding) -> None:
    """Sends one firing alert that is never re-sent. Raises ``OSError``, and ``ValueError`` for an invalid URL."""
    webs = _members(settings)
    try:
        _post(webs, [_alert(writer, finding, finding.opened_at + settings.resend // timedelta(microseconds=1))])
    finally:
        for web in webs:
            web.close()


def _members(settings: AlertmanagerReceiver) -> list[HttpClient]:
    return [HttpClient(f"{url.rstrip('/')}/api/v2/alerts") for url in settings.urls]


def _alert(writer: MessageWriter, finding: Finding, ends_at: int) -> dict[str, Any]:
    rule = next((rule for rule in writer.rules() if rule.id == finding.rule_id), None)
    who = writer.pseudonyms.who(finding)
    annotations = {"summary": f"{finding.rule}: {who}", "description": reason(finding, rule)}
    if rule is not None and rule.runbook is not None:
        annotations["runbook_url"] = rule.runbook
    labels = {
        "alertname": "CustodesFinding",
        "rule": finding.rule,
        "level": finding.level,
        "who": who,
        "finding": finding.id,
        "audience": "investigation",
    }
    alert: dict[str, Any] = {"labels": labels, "annotations": annotations}
    # An alert must have begun before it ends.
    alert |= {"startsAt": rfc3339(min(finding.opened_at, ends_at)), "endsAt": rfc3339(ends_at)}
    if writer.console is not None:
        alert["generatorURL"] = f"{writer.console}/findings/{finding.id}"
    return alert


def _post(webs: Sequence[HttpClient], alerts: Sequence[dict[str, Any]]) -> None:
    """Posts to every member. Raises ``OSError`` if no member accepts."""
    for start in range(0, len(alerts), _AT_ONCE):
        body = orjson.dumps(alerts[start : start + _AT_ONCE])
        failures: list[Exception] = []
        for web in webs:
            try:
                web.post(body, {"Content-Type": "application/json"})
            except (OSError, DeliveryRejectedError) as error:
                failures.append(error)
        if len(failures) == len(webs):
            raise OSError("; ".join(map(str, failures)))
