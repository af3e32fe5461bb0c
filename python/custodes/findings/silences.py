"""Silences: findings that are expected for a limited time, with a reason.

A finding that opens under a silence has its events and evidence like any other, but is closed as explained from the
start, and no alert is sent. A maintenance window is a silence that begins later.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, insert, select, update

from custodes.database.tables import notes, silences, triage
from custodes.encryption.keys import group_text
from custodes.findings.model import Finding, rfc3339
from custodes.findings.triage import Triage

LONGEST = 90 * 86_400_000_000
"""Longest silence, in microseconds: a longer exception belongs into the rule or its look-up tables."""
MOST_REASON = 500


@dataclass(frozen=True)
class Silence:
    """One silence. Times are microseconds since the epoch, by the clock and not by event time."""

    rule_id: str | None
    """``None`` matches all rules."""
    group: dict[str, str]
    """Values that the group of a finding must have; an empty mapping matches all groups."""
    since: int
    until: int
    by: str
    reason: str
    number: int = field(default=0)

    def __post_init__(self) -> None:
        """Raises ``ValueError`` for an invalid silence."""
        if not self.reason.strip() or len(self.reason) > MOST_REASON:
            raise ValueError(f"the reason must have 1 to {MOST_REASON} characters")
        if not self.since < self.until <= self.since + LONGEST:
            raise ValueError("a silence must end after it begins, and within 90 days")

    def covers(self, finding: Finding) -> bool:
        """Returns whether the silence matches a finding, regardless of the time."""
        is_its_rule = self.rule_id is None or self.rule_id == finding.rule_id
        return is_its_rule and any(self.group.items() <= one.items() for one in (finding.group, finding.shown))

    def as_dict(self) -> dict[str, Any]:
        """Returns the public fields."""
        return vars(self) | {"since": rfc3339(self.since), "until": rfc3339(self.until)}


class SilenceStore:
    """Safe to use from any thread and process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, silence: Silence) -> int:
        """Stores a silence and returns its number."""
        row = {name: value for name, value in vars(silence).items() if name != "number"}
        row["group"] = group_text(silence.group)
        with self._engine.begin() as connection:
            statement = insert(silences).values(row).returning(silences.c.number)
            return int(connection.execute(statement).scalar_one())

    def all(self, now: int) -> Sequence[Silence]:
        """Returns current and future silences, in order of their end."""
        with self._engine.connect() as connection:
            return silences_after(connection, now)

    def end(self, number: int, now: int) -> None:
        """Ends a silence. Raises ``KeyError`` if it is not in force."""
        with self._engine.begin() as connection:
            its = (silences.c.number == number, silences.c.until > now)
            if not connection.execute(update(silences).where(*its).values(until=now)).rowcount:
                raise KeyError(number)


def silences_after(connection: Connection, now: int) -> list[Silence]:
    """Returns current and future silences, in order of their end."""
    query = select(silences).where(silences.c.until > now).order_by(silences.c.until, silences.c.number)
    rows = connection.execute(query).mappings().all()
    return [Silence(**{**row, "group": json.loads(row["group"])}) for row in rows]


def close_silently(connection: Connection, finding: Finding, silence: Silence, now: int) -> Triage:
    """Closes a finding that a silence matches, and returns its triage state."""
    stands = Triage("closed", "explained", version=1, changed_at=now, silence=silence.number)
    connection.execute(insert(triage).values(finding_id=finding.id, **vars(stands)))
    text = f"explained: silence {silence.number}: {silence.reason}"
    note = {"finding_id": finding.id, "at": now, "by": silence.by, "kind": "closed", "text": text}
    connection.execute(insert(notes).values(note))
    return stands
