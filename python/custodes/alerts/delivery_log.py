"""Delivery state of every receiver: its position in the outbox, and the alerts that could not be delivered.

Processes that share a database share this state. A lease allows one process at a time to serve a receiver; a process
that has lost the lease is refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, and_, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from custodes.database.tables import firing, receivers, undelivered
from custodes.findings import Finding, rfc3339
from custodes.findings.outbox import OutboxEntry, OutboxStore

_LEASE = 30_000_000
"""Lifetime of a lease without renewal, in microseconds."""


class LeaseLostError(Exception):
    """Another process holds the lease of this receiver."""


@dataclass(frozen=True)
class Undelivered:
    """An outbox entry that a receiver did not accept."""

    receiver: str
    number: int
    at: int
    why: str
    news: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Returns the public fields."""
        kind, finding = self.news["kind"], self.news["finding"]
        return {
            "receiver": self.receiver,
            "number": self.number,
            "at": rfc3339(self.at),
            "why": self.why,
            "kind": kind,
            "finding": finding["id"],
            "rule": finding["rule"],
        }


@dataclass(frozen=True)
class FiringAlert:
    """An alert that a receiver has, or is about to get."""

    finding: Finding
    since: int | None
    """Time of the first delivery, in microseconds since the epoch."""
    ended_at: int | None
    """Time at which the alert was resolved."""


class DeliveryLog:
    """The delivery state of one receiver, for one process."""

    def __init__(self, engine: Engine, receiver: str, holder: str) -> None:
        self._engine = engine
        self._receiver, self._holder = receiver, holder
        self._news = OutboxStore(engine)
        self._its = receivers.c.name == receiver

    def register(self) -> None:
        """Registers the receiver if it is new; a new receiver gets entries from now on."""
        with self._engine.connect() as connection:
            if connection.execute(select(receivers.c.name).where(self._its)).first() is not None:
                return
        row = {"name": self._receiver, "number": self._news.latest(), "held_until": 0}
        # Of two processes that start together one inserts the row, and both continue from it.
        with suppress(IntegrityError), self._engine.begin() as connection:
            connection.execute(insert(receivers).values(row))

    def hold(self, now: int) -> bool:
        """Acquires or renews the lease and returns whether this process has it. ``now`` is in microseconds."""
        # The lease is checked every second, and writing waits for the disk.
        still = select(receivers.c.name).where(self._its, self._is_mine, receivers.c.held_until > now + _LEASE // 2)
        with self._engine.connect() as connection:
            if connection.execute(still).first() is not None:
                return True
        free = or_(self._is_mine, receivers.c.holder.is_(None), receivers.c.held_until < now)
        mine = update(receivers).where(self._its, free).values(holder=self._holder, held_until=now + _LEASE)
        with self._engine.begin() as connection:
            return bool(connection.execute(mine).rowcount)

    def release(self) -> None:
        """Releases the lease."""
        with self._engine.begin() as connection:
            connection.execute(update(receivers).where(self._its, self._is_mine).values(holder=None, held_until=0))

    @property
    def _is_mine(self) -> Any:
        return receivers.c.holder == self._holder

    def untold(self, limit: int) -> Sequence[OutboxEntry]:
        """Returns entries that were not delivered yet, in their order."""
        with self._engine.connect() as connection:
            number = connection.execute(select(receivers.c.number).where(self._its)).scalar_one()
        return self._news.after(number, limit)

    def _come_to(self, connection: Connection, number: int) -> None:
        done = connection.execute(update(receivers).where(self._its, self._is_mine).values(number=number))
        if not done.rowcount:
            raise LeaseLostError(f"the lease of {self._receiver} is held by another process")

    def told(self, news: OutboxEntry) -> None:
        """Raises :class:`LeaseLostError`."""
        with self._engine.begin() as connection:
            self._come_to(connection, news.number)

    def give_up(self, news: OutboxEntry, why: str, now: int) -> None:
        """Sets an entry aside that will not be accepted. Raises :class:`LeaseLostError`."""
        kept = json.dumps({**vars(news), "finding": vars(news.finding)}, ensure_ascii=False)
        row = {"receiver": self._receiver, "number": news.number, "at": now, "why": why, "news": kept}
        with self._engine.begin() as connection:
            connection.execute(insert(undelivered).values(row))
            self._come_to(connection, news.number)

    def take_firing(self, news: Sequence[OutboxEntry], is_told: Sequence[bool], ends: frozenset[str]) -> None:
        """Applies entries to the alerts they begin and end; ``is_told`` returns whether an entry is for this receiver.

        Raises :class:`LeaseLostError`.
        """
        with self._engine.begin() as connection:
            for one, wanted in zip(news, is_told, strict=True):
                alert = self._alert(one.finding)
                finding = json.dumps(vars(one.finding), ensure_ascii=False)
                if one.kind in ends:
                    connection.execute(update(firing).where(alert).values(ended_at=one.at, finding=finding))
                elif one.kind in {"opened", "reopened"} and wanted:
                    connection.execute(delete(firing).where(alert))
                    row = {"receiver": self._receiver, "finding_id": one.finding.id, "finding": finding}
                    connection.execute(insert(firing).values(row))
                else:
                    connection.execute(update(firing).where(alert).values(finding=finding))
            self._come_to(connection, news[-1].number)

    def _alert(self, finding: Finding) -> Any:
        """Returns the condition that a row is this receiver's alert about a finding."""
        return and_(firing.c.receiver == self._receiver, firing.c.finding_id == finding.id)

    def firing(self) -> list[FiringAlert]:
        """Returns the alerts that the receiver has or is about to get, in no order."""
        query = select(firing).where(firing.c.receiver == self._receiver)
        with self._engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
        return [FiringAlert(Finding.read(json.loads(row["finding"])), row["since"], row["ended_at"]) for row in rows]

    def fires(self, alerts: Sequence[FiringAlert], now: int) -> None:
        """Records that the receiver has these alerts."""
        with self._engine.begin() as connection:
            for one in alerts:
                alert = self._alert(one.finding)
                connection.execute(update(firing).where(alert, firing.c.since.is_(None)).values(since=now))

    def resolved(self, alerts: Sequence[FiringAlert]) -> None:
        """Removes resolved alerts that were sent. An alert that was reopened meanwhile stays."""
        with self._engine.begin() as connection:
            for one in alerts:
                alert = self._alert(one.finding)
                connection.execute(delete(firing).where(alert, firing.c.ended_at.is_not(None)))

    def waiting(self) -> int:
        """Returns the number of entries that were not delivered yet."""
        with self._engine.connect() as connection:
            number = connection.execute(select(receivers.c.number).where(self._its)).scalar_one_or_none()
        return 0 if number is None else self._news.count_after(number)

    def undelivered_count(self) -> int:
        """Returns the number of entries that were set aside."""
        query = select(func.count()).where(undelivered.c.receiver == self._receiver)
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())


def undelivered_news(engine: Engine) -> list[Undelivered]:
    """Returns the entries that were set aside, oldest first."""
    with engine.connect() as connection:
        rows = connection.execute(select(undelivered).order_by(undelivered.c.number, undelivered.c.receiver)).mappings()
        return [Undelivered(**{**row, "news": json.loads(row["news"])}) for row in rows]


def forget_undelivered(engine: Engine, receiver: str, number: int) -> None:
    """Removes an entry that was set aside, after a late delivery or by an operator."""
    with engine.begin() as connection:
        its = and_(undelivered.c.receiver == receiver, undelivered.c.number == number)
        connection.execute(delete(undelivered).where(its))
