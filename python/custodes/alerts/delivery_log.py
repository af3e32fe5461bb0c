"""Who was told what: how far each receiver has come, and what could not be delivered.

Processes that share a database share this: one at a time tells a receiver, and who has lost it is refused from then on.
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
"""Microseconds for which a process that is not heard of keeps a receiver."""


class LeaseLostError(Exception):
    """Another process tells this receiver now."""


@dataclass(frozen=True)
class Undelivered:
    """A piece of news that a receiver did not take."""

    receiver: str
    number: int
    at: int
    why: str
    news: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """The public fields."""
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
    """An alert that a receiver holds, or is to hold."""

    finding: Finding
    since: int | None
    """When it was first told of it, microseconds since the epoch."""
    ended_at: int | None
    """When the reason for it ended."""


class DeliveryLog:
    """One receiver's part of it, for one process."""

    def __init__(self, engine: Engine, receiver: str, holder: str) -> None:
        self._engine = engine
        self._receiver, self._holder = receiver, holder
        self._news = OutboxStore(engine)
        self._its = receivers.c.name == receiver

    def register(self) -> None:
        """Makes the receiver known, if it is not: it is told what comes from now on."""
        with self._engine.connect() as connection:
            if connection.execute(select(receivers.c.name).where(self._its)).first() is not None:
                return
        row = {"name": self._receiver, "number": self._news.latest(), "held_until": 0}
        # Of two processes that start together one is first, and both are told the same.
        with suppress(IntegrityError), self._engine.begin() as connection:
            connection.execute(insert(receivers).values(row))

    def hold(self, now: int) -> bool:
        """Takes the receiver, or keeps it; whether it is this process's. ``now`` is in microseconds."""
        # It is asked every second, and writing waits for the disk.
        still = select(receivers.c.name).where(self._its, self._is_mine, receivers.c.held_until > now + _LEASE // 2)
        with self._engine.connect() as connection:
            if connection.execute(still).first() is not None:
                return True
        free = or_(self._is_mine, receivers.c.holder.is_(None), receivers.c.held_until < now)
        mine = update(receivers).where(self._its, free).values(holder=self._holder, held_until=now + _LEASE)
        with self._engine.begin() as connection:
            return bool(connection.execute(mine).rowcount)

    def release(self) -> None:
        """Lets another process have it."""
        with self._engine.begin() as connection:
            connection.execute(update(receivers).where(self._its, self._is_mine).values(holder=None, held_until=0))

    @property
    def _is_mine(self) -> Any:
        return receivers.c.holder == self._holder

    def untold(self, limit: int) -> Sequence[OutboxEntry]:
        """What it was not told yet, in its order."""
        with self._engine.connect() as connection:
            number = connection.execute(select(receivers.c.number).where(self._its)).scalar_one()
        return self._news.after(number, limit)

    def _come_to(self, connection: Connection, number: int) -> None:
        done = connection.execute(update(receivers).where(self._its, self._is_mine).values(number=number))
        if not done.rowcount:
            raise LeaseLostError(f"{self._receiver} is told by another process")

    def told(self, news: OutboxEntry) -> None:
        """Raises :class:`LeaseLostError`."""
        with self._engine.begin() as connection:
            self._come_to(connection, news.number)

    def give_up(self, news: OutboxEntry, why: str, now: int) -> None:
        """Puts aside what will not be taken. Raises :class:`LeaseLostError`."""
        kept = json.dumps({**vars(news), "finding": vars(news.finding)}, ensure_ascii=False)
        row = {"receiver": self._receiver, "number": news.number, "at": now, "why": why, "news": kept}
        with self._engine.begin() as connection:
            connection.execute(insert(undelivered).values(row))
            self._come_to(connection, news.number)

    def take_firing(self, news: Sequence[OutboxEntry], is_told: Sequence[bool], ends: frozenset[str]) -> None:
        """Takes news in as alerts that begin and end; ``is_told`` says of each whether it is for this receiver.

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
        """The condition that a row is this receiver's alert of a finding."""
        return and_(firing.c.receiver == self._receiver, firing.c.finding_id == finding.id)

    def firing(self) -> list[FiringAlert]:
        """The alerts it holds, or is to hold, in no order."""
        query = select(firing).where(firing.c.receiver == self._receiver)
        with self._engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
        return [FiringAlert(Finding.read(json.loads(row["finding"])), row["since"], row["ended_at"]) for row in rows]

    def fires(self, alerts: Sequence[FiringAlert], now: int) -> None:
        """It holds them now."""
        with self._engine.begin() as connection:
            for one in alerts:
                alert = self._alert(one.finding)
                connection.execute(update(firing).where(alert, firing.c.since.is_(None)).values(since=now))

    def resolved(self, alerts: Sequence[FiringAlert]) -> None:
        """It knows that they are over. One that was opened again meanwhile stays."""
        with self._engine.begin() as connection:
            for one in alerts:
                alert = self._alert(one.finding)
                connection.execute(delete(firing).where(alert, firing.c.ended_at.is_not(None)))

    def waiting(self) -> int:
        """How many pieces of news it was not told yet."""
        with self._engine.connect() as connection:
            number = connection.execute(select(receivers.c.number).where(self._its)).scalar_one_or_none()
        return 0 if number is None else self._news.count_after(number)

    def undelivered_count(self) -> int:
        """How much was put aside."""
        query = select(func.count()).where(undelivered.c.receiver == self._receiver)
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())


def undelivered_news(engine: Engine) -> list[Undelivered]:
    """What was put aside, the earliest first."""
    with engine.connect() as connection:
        rows = connection.execute(select(undelivered).order_by(undelivered.c.number, undelivered.c.receiver)).mappings()
        return [Undelivered(**{**row, "news": json.loads(row["news"])}) for row in rows]


def forget_undelivered(engine: Engine, receiver: str, number: int) -> None:
    """It was delivered after all, or nobody wants it any more."""
    with engine.begin() as connection:
        its = and_(undelivered.c.receiver == receiver, undelivered.c.number == number)
        connection.execute(delete(undelivered).where(its))
