"""Silences: what is known to be coming, and explained beforehand, for a while and for a reason.

A finding that opens while one covers it is there like any other, with its events and its evidence, but closed as
explained from the start, and nobody is alerted. A maintenance window is a silence that begins later.
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
"""Microseconds: what goes on for longer is for the rule, or its tables of who is meant to."""
MOST_REASON = 500


@dataclass(frozen=True)
class Silence:
    """One. Times are microseconds since the epoch, by the clock: not of the events."""

    rule_id: str | None
    """``None``: every rule's findings."""
    group: dict[str, str]
    """Values that the finding's group has; none: every group."""
    since: int
    until: int
    by: str
    reason: str
    number: int = field(default=0)

    def __post_init__(self) -> None:
        """Raises ``ValueError`` for one that cannot be."""
        if not self.reason.strip() or len(self.reason) > MOST_REASON:
            raise ValueError(f"say in up to {MOST_REASON} characters why")
        if not self.since < self.until <= self.since + LONGEST:
            raise ValueError("a silence ends after it begins, and within 90 days")

    def covers(self, finding: Finding) -> bool:
        """Whether the finding is one that was expected, whatever the time is."""
        is_its_rule = self.rule_id is None or self.rule_id == finding.rule_id
        return is_its_rule and self.group.items() <= finding.group.items()

    def as_dict(self) -> dict[str, Any]:
        """The public fields."""
        return vars(self) | {"since": rfc3339(self.since), "until": rfc3339(self.until)}


class SilenceStore:
    """Used from any thread and process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, silence: Silence) -> int:
        """Returns its number."""
        row = {name: value for name, value in vars(silence).items() if name != "number"}
        row["group"] = group_text(silence.group)
        with self._engine.begin() as connection:
            statement = insert(silences).values(row).returning(silences.c.number)
            return int(connection.execute(statement).scalar_one())

    def all(self, now: int) -> Sequence[Silence]:
        """Those that hold, or will; those that end first first."""
        with self._engine.connect() as connection:
            return silences_after(connection, now)

    def end(self, number: int, now: int) -> None:
        """It holds no longer. Raises ``KeyError`` where it does not anyway."""
        with self._engine.begin() as connection:
            its = (silences.c.number == number, silences.c.until > now)
            if not connection.execute(update(silences).where(*its).values(until=now)).rowcount:
                raise KeyError(number)


def silences_after(connection: Connection, now: int) -> list[Silence]:
    """Those that hold, or will; those that end first first."""
    query = select(silences).where(silences.c.until > now).order_by(silences.c.until, silences.c.number)
    rows = connection.execute(query).mappings().all()
    return [Silence(**{**row, "group": json.loads(row["group"])}) for row in rows]


def close_silently(connection: Connection, finding: Finding, silence: Silence, now: int) -> Triage:
    """A finding that was expected is closed as soon as it is there; returns how it stands."""
    stands = Triage("closed", "explained", version=1, changed_at=now, silence=silence.number)
    connection.execute(insert(triage).values(finding_id=finding.id, **vars(stands)))
    text = f"explained: silence {silence.number}: {silence.reason}"
    note = {"finding_id": finding.id, "at": now, "by": silence.by, "kind": "closed", "text": text}
    connection.execute(insert(notes).values(note))
    return stands
