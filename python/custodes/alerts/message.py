"""The content of an alert: an outbox entry, reduced to the data that its receiver may get."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from custodes.accounts.pseudonyms import Pseudonyms
from custodes.findings import Finding, rfc3339
from custodes.findings.outbox import EntryKind, OutboxEntry
from custodes.findings.wording import reason
from custodes.rules import Rule

_TOLD: dict[EntryKind, str] = {
    "opened": "",
    "closed": "ended: ",
    "merged": "merged into another finding: ",
    "acknowledged": "acknowledged: ",
    "judged": "closed: ",
    "reopened": "open again: ",
}


@dataclass(frozen=True)
class Message:
    """One alert, as text and as data."""

    id: str
    """Id of the message, the same for every attempt."""
    kind: EntryKind
    at: int
    """Microseconds since the epoch."""
    finding: Finding
    """The finding, with names or pseudonyms."""
    who: str
    reason: str
    link: str | None
    """URL of the finding's page."""
    runbook: str | None
    by: str | None

    @property
    def title(self) -> str:
        """Returns one line: rule and group."""
        return f"{_TOLD[self.kind]}{self.finding.rule}: {self.who}"

    @property
    def time(self) -> datetime:
        return datetime.fromtimestamp(self.at / 1e6, UTC)

    def as_dict(self) -> dict[str, Any]:
        """Returns the payload of a webhook."""
        return {
            "type": f"finding.{self.kind}",
            "timestamp": rfc3339(self.at),
            "data": {
                "finding": self.finding.as_dict(),
                "who": self.who,
                "summary": self.reason,
                "link": self.link,
                "runbook": self.runbook,
                "by": self.by,
            },
        }


@dataclass(frozen=True)
class MessageWriter:
    """Creates messages for one receiver."""

    pseudonyms: Pseudonyms
    rules: Callable[[], Sequence[Rule]]
    """The rules in force."""
    console: str | None
    """URL of the console, without a slash at the end."""

    def message(self, news: OutboxEntry) -> Message:
        finding = news.finding
        rule = next((rule for rule in self.rules() if rule.id == finding.rule_id), None)
        return Message(
            id=f"{finding.id}-{news.number}",
            kind=news.kind,
            at=news.at,
            finding=self.shown(finding),
            who=self.pseudonyms.who(finding),
            reason=reason(finding, rule),
            link=None if self.console is None else f"{self.console}/findings/{finding.id}",
            runbook=None if rule is None else rule.runbook,
            by=None if news.by is None else self.pseudonyms.pseudonym("account", news.by),
        )

    def shown(self, finding: Finding) -> Finding:
        """Returns a finding with the names that its receiver may get."""
        return Finding(**{**vars(finding), "group": self.pseudonyms.group(finding), "spelling": {}})
