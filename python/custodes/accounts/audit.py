"""The audit trail: every access to a person's data and every change of a finding, with account and purpose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sqlalchemy import Engine, func, insert, select

from custodes.database.tables import audit
from custodes.findings.model import rfc3339
from custodes.log_events import AuditRecorded


@dataclass(frozen=True)
class AuditEntry:
    """One entry."""

    at: int
    account: str
    action: str
    """``read`` for an access to a person's data, otherwise the action."""
    resource: str
    """``custodes.actor``, ``custodes.subject``, ``custodes.finding``, …"""
    subject: str | None = None
    """The person or object concerned."""
    purpose: str | None = None
    address: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Returns the public fields."""
        return vars(self) | {"at": rfc3339(self.at)}

    def as_event(self) -> dict[str, Any]:
        """Returns the entry as an access event: Custodes monitors its own users with the same rules as others."""
        named = {"subject": self.subject, "purpose": self.purpose, "client_ip": self.address}
        whole = {"time": self.at, "actor": self.account, "action": self.action, "resource": self.resource, **named}
        return {name: value for name, value in whole.items() if value is not None} | {"app": "custodes"}


class AuditTrail:
    """An append-only table. Safe to use from any thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def record(self, look: AuditEntry) -> None:
        """Stores an entry; data is shown only after this returns. Raises the database's errors."""
        with self._engine.begin() as connection:
            connection.execute(insert(audit).values(**vars(look)))
        # Subject and purpose may name people: they are stored in the trail only, not in the log.
        AuditRecorded(account=look.account, action=look.action, resource=look.resource).emit()

    def number_before(self, time: int) -> int:
        """Returns the number of the last entry before a time; 0 if there is none."""
        query = select(func.max(audit.c.number)).where(audit.c.at < time)
        with self._engine.connect() as connection:
            return connection.execute(query).scalar_one() or 0

    def after(self, number: int) -> list[tuple[int, AuditEntry]]:
        """Returns the entries after a number, in order."""
        query = select(audit).where(audit.c.number > number).order_by(audit.c.number)
        with self._engine.connect() as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        return [(row.pop("number"), AuditEntry(**row)) for row in rows]

    def page(
        self, limit: int = 100, before: int | None = None, having: Mapping[str, str] = MappingProxyType({})
    ) -> tuple[list[tuple[int, AuditEntry]], int | None]:
        """Returns entries with their numbers, latest first, and the ``before`` cursor of the next page."""
        query = select(audit).order_by(audit.c.number.desc()).limit(limit + 1)
        if before is not None:
            query = query.where(audit.c.number < before)
        for name, value in having.items():
            query = query.where(audit.c[name] == value)
        with self._engine.connect() as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        found = [(row.pop("number"), AuditEntry(**row)) for row in rows[:limit]]
        return found, found[-1][0] if len(rows) > limit else None
