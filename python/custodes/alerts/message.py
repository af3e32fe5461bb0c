"""What an alert says: of a piece of news, as much as its receiver may know."""

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
    "merged": "part of another now: ",
    "acknowledged": "acknowledged: ",
    "judged": "closed: ",
    "reopened": "open again: ",
}


@dataclass(frozen=True)
class Message:
    """One alert, in words and as data."""

    id: str
    """The same however often it is sent."""
    kind: EntryKind
    at: int
    """Microseconds since the epoch."""
    finding: Finding
    """With the names its receiver may see."""
    who: str
    reason: str
    link: str | None
    """The finding's page."""
    runbook: str | None
    by: str | None

    @property
    def title(self) -> str:
        """A line: what, and who."""
        return f"{_TOLD[self.kind]}{self.finding.rule}: {self.who}"

    @property
    def time(self) -> datetime:
        return datetime.fromtimestamp(self.at / 1e6, UTC)

    def as_dict(self) -> dict[str, Any]:
        """As programs read it: the payload of a webhook."""
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
    """Writes messages for one receiver."""

    pseudonyms: Pseudonyms
    rules: Callable[[], Sequence[Rule]]
    """Those in force."""
    console: str | None
    """Where the console is reached, without a slash at the end."""

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
        """A finding with the names its receiver may see."""
        return Finding(**{**vars(finding), "group": self.pseudonyms.group(finding)})
