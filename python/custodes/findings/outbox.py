"""Notifications use a transactional outbox: an entry is written in the same transaction as the change it describes.

A crash therefore neither loses nor invents an entry, and a receiver that was away finds all entries in order.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, Engine, delete, func, insert, select

from custodes.database.tables import news
from custodes.findings.model import Finding

EntryKind = Literal["opened", "closed", "merged", "acknowledged", "judged", "reopened"]

MOST_KEPT = 100_000
"""Number of latest entries kept for receivers that were away."""

_WRITERS_LOCK = 0x4E657773
"""Lock that makes the order of numbers the order of commits in PostgreSQL: a reader that has seen one number has seen
all lower ones."""


@dataclass(frozen=True)
class OutboxEntry:
    """One entry of the outbox."""

    number: int
    at: int
    """Time of writing, in microseconds since the epoch."""
    kind: EntryKind
    finding: Finding
    """The finding at that time."""
    by: str | None
    """Account that made the change, if an account did."""


@dataclass(frozen=True)
class PendingEntry:
    """An entry about to be written."""

    kind: EntryKind
    finding: Finding
    by: str | None = None


def record(connection: Connection, pieces: Sequence[PendingEntry]) -> None:
    """Writes entries in order, in the caller's transaction."""
    if not pieces:
        return
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_WRITERS_LOCK)))
    at = int(time.time() * 1e6)
    rows = [
        {"at": at, "kind": one.kind, "finding": json.dumps(vars(one.finding), ensure_ascii=False), "by": one.by}
        for one in pieces
    ]
    connection.execute(insert(news), rows)
    kept = select(func.max(news.c.number) - MOST_KEPT).scalar_subquery()
    connection.execute(delete(news).where(news.c.number <= kept))


class OutboxStore:
    """Reads the outbox. Safe to use from any thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def after(self, number: int, limit: int) -> Sequence[OutboxEntry]:
        """Returns the entries after a number, in order."""
        query = select(news).where(news.c.number > number).order_by(news.c.number).limit(limit)
        with self._engine.connect() as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        return [OutboxEntry(**{**row, "finding": Finding.read(json.loads(row["finding"]))}) for row in rows]

    def count_after(self, number: int) -> int:
        """Returns the number of entries after a number."""
        with self._engine.connect() as connection:
            return int(connection.execute(select(func.count()).where(news.c.number > number)).scalar_one())

    def latest(self) -> int:
        """Returns the number of the last entry; 0 if there is none."""
        with self._engine.connect() as connection:
            return connection.execute(select(func.max(news.c.number))).scalar_one() or 0
