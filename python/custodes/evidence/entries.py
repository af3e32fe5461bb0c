"""What the entries of the evidence log say: JSON, one object an entry, about one finding each.

An *event* has a record as its source had it, and where that was. A *rule* has the text by which was judged. A *finding*
tells how it stood, and of how many events the log has by then; so a bundle can be seen to be complete. A *part* is a
finding that counted, where a rule counts findings; there is evidence of it under its own name. *Expired* says which
entries were erased, for which findings, and why.
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
"""Random bytes before each entry, where it is hashed."""
OF_THE_LOG = bytes(16)
"""Names what is about the log itself."""
EXPIRED_BEGINS = b'{"kind":"expired"'


def key_of(finding_id: str) -> bytes:
    """What names a finding in the log. Raises ``ValueError`` for what is no finding's id."""
    return UUID(finding_id).bytes


@dataclass(frozen=True)
class EventEntry:
    """An event behind a finding."""

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
    """The rule as it was in force."""

    KIND: ClassVar = "rule"
    rule_id: str
    text: str
    """Its file."""
    condition: dict[str, Any]
    """What it came to, in the engine's terms."""

    @classmethod
    def of(cls, rule: Rule) -> RuleEntry:
        return cls(rule.id, rule.text, rule.when)


@dataclass(frozen=True)
class FindingEntry:
    """How a finding stood."""

    KIND: ClassVar = "finding"
    finding: dict[str, Any]
    events: int
    """How many events of it are in the log, those written with it included."""
    is_whole: bool
    """Whether those are all there were."""
    version: str = __version__

    @classmethod
    def of(cls, finding: Finding, events: int, *, is_whole: bool) -> FindingEntry:
        return cls(finding.as_dict(), events, is_whole)


@dataclass(frozen=True)
class PartEntry:
    """A finding that counted, as it stood when it was written down here."""

    KIND: ClassVar = "part"
    finding: dict[str, Any]

    @classmethod
    def of(cls, finding: Finding) -> PartEntry:
        return cls(finding.as_dict())


@dataclass(frozen=True)
class ExpiredEntry:
    """What was erased."""

    KIND: ClassVar = "expired"
    findings: list[str]
    runs: list[tuple[int, int]]
    """The first and the last number of each run of entries."""
    why: str


LogEntry = EventEntry | RuleEntry | FindingEntry | PartEntry | ExpiredEntry
_KINDS: dict[str, type[LogEntry]] = {
    one.KIND: one for one in (EventEntry, RuleEntry, FindingEntry, PartEntry, ExpiredEntry)
}


def written(entry: LogEntry) -> bytes:
    """As it stands in the log."""
    return json.dumps({"kind": entry.KIND, **asdict(entry)}, ensure_ascii=False, separators=(",", ":")).encode()


def read(text: bytes) -> LogEntry:
    """An entry of the log, without its salt. Raises ``ValueError`` for one of another version."""
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
