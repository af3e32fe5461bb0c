"""Entries of the evidence log: one JSON object per entry, about one finding.

An *event* has a record as its source had it, and its position. A *rule* has the text of the rule in force. A *finding*
has its state and the number of its events in the log, which proves a bundle complete. A *part* is a counted finding,
which has its own evidence under its own id. *Expired* lists erased entries, with their findings and the reason.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, ClassVar
from uuid import UUID

from custodes import __version__
from custodes.evidence.contributing_events import ContributingEvent
from custodes.findings import Finding, rfc3339
from custodes.findings.model import current_names
from custodes.rules import Rule

SALT = 16
"""Number of random bytes before each hashed entry."""
OF_THE_LOG = bytes(16)
"""Key of entries about the log itself."""
EXPIRED_BEGINS = b'{"kind":"expired"'


def key_of(finding_id: str) -> bytes:
    """Returns the key of a finding in the log. Raises ``ValueError`` for an invalid id."""
    return UUID(finding_id).bytes


@dataclass(frozen=True)
class EventEntry:
    """An event of a finding."""

    KIND: ClassVar = "event"
    source: str
    position: int
    time: str
    record: str

    @classmethod
    def of(cls, event: ContributingEvent) -> EventEntry:
        access = event.access
        return cls(access.source, access.position, str(rfc3339(access.time)), event.record.decode())


@dataclass(frozen=True)
class RuleEntry:
    """The rule in force."""

    KIND: ClassVar = "rule"
    rule_id: str
    text: str
    """Its file."""
    condition: dict[str, Any]
    """Its compiled form."""

    @classmethod
    def of(cls, rule: Rule) -> RuleEntry:
        return cls(rule.id, rule.text, rule.when)


@dataclass(frozen=True)
class FindingEntry:
    """The state of a finding."""

    KIND: ClassVar = "finding"
    finding: dict[str, Any]
    events: int
    """Number of its events in the log, including those written with this entry."""
    is_whole: bool
    """Whether these are all its events."""
    version: str = __version__

    @classmethod
    def of(cls, finding: Finding, events: int, *, is_whole: bool) -> FindingEntry:
        return cls(finding.as_dict(), events, is_whole)


@dataclass(frozen=True)
class PartEntry:
    """A counted finding, in its state at the time of writing."""

    KIND: ClassVar = "part"
    finding: dict[str, Any]

    @classmethod
    def of(cls, finding: Finding) -> PartEntry:
        return cls(finding.as_dict())


@dataclass(frozen=True)
class ExpiredEntry:
    """Erased entries."""

    KIND: ClassVar = "expired"
    findings: list[str]
    runs: list[tuple[int, int]]
    """First and last number of each run of entries."""
    why: str


LogEntry = EventEntry | RuleEntry | FindingEntry | PartEntry | ExpiredEntry
_KINDS: dict[str, type[LogEntry]] = {
    one.KIND: one for one in (EventEntry, RuleEntry, FindingEntry, PartEntry, ExpiredEntry)
}


def written(entry: LogEntry) -> bytes:
    """Returns the entry as written to the log."""
    return json.dumps({"kind": entry.KIND, **asdict(entry)}, ensure_ascii=False, separators=(",", ":")).encode()


def read(text: bytes) -> LogEntry:
    """Reads an entry without its salt. Raises ``ValueError`` for an unknown version."""
    fields = json.loads(text)
    kind = _KINDS.get(fields.pop("kind", None))
    if kind is None:
        raise ValueError("an entry of a kind that this version does not know")
    if "finding" in fields and kind in (FindingEntry, PartEntry):
        fields["finding"] = current_names(fields["finding"])
    try:
        return kind(**fields)
    except TypeError as error:
        raise ValueError(f"an entry of another version: {error}") from error
