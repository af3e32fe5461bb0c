"""News of findings, for whoever is told of them: written with what they tell of, in one transaction.

So a crash loses none and makes none up, and whoever was away finds them, in their order, when back.
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
"""So many of the latest are there for whoever was away."""

_WRITERS_LOCK = 0x4E657773
"""Makes the order of numbers that of commits in PostgreSQL, so that whoever has read one has read all before it."""


@dataclass(frozen=True)
class OutboxEntry:
    """One piece."""

    number: int
    at: int
    """When it was written, in microseconds since the epoch."""
    kind: EntryKind
    finding: Finding
    """As it was then."""
    by: str | None
    """Who did it, where somebody did."""


@dataclass(frozen=True)
class PendingEntry:
    """News that is about to be written."""

    kind: EntryKind
    finding: Finding
    by: str | None = None


def record(connection: Connection, pieces: Sequence[PendingEntry]) -> None:
    """Writes news down, in their order, in a transaction of the caller's."""
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
    """Reads them. Used from any thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def after(self, number: int, limit: int) -> Sequence[OutboxEntry]:
        """Those after a number, in their order."""
        query = select(news).where(news.c.number > number).order_by(news.c.number).limit(limit)
        with self._engine.connect() as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        return [OutboxEntry(**{**row, "finding": Finding.read(json.loads(row["finding"]))}) for row in rows]

    def count_after(self, number: int) -> int:
        """How many there are after a number."""
        with self._engine.connect() as connection:
            return int(connection.execute(select(func.count()).where(news.c.number > number)).scalar_one())

    def latest(self) -> int:
        """The number of the last; 0 where there is none."""
        with self._engine.connect() as connection:
            return connection.execute(select(func.max(news.c.number))).scalar_one() or 0
