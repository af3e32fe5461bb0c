"""Retention: evidence of an ended and judged finding is erased after a time, unless it is on hold.

First an entry of the log states what is erased and why; then the content is erased, and its hashes stay. Missing
evidence without such an entry was therefore removed by tampering.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, delete, insert, select
from sqlalchemy.exc import IntegrityError

from custodes.config import format_duration
from custodes.database.tables import findings, holds, triage
from custodes.evidence.entries import OF_THE_LOG, ExpiredEntry, FindingEntry, key_of, written
from custodes.evidence.log_store import EvidenceStore
from custodes.findings.model import rfc3339
from custodes.log_events import EvidenceErased


@dataclass(frozen=True)
class Hold:
    """A hold: evidence that must be kept regardless of its age, for example for a court case."""

    finding_id: str
    by: str
    at: int
    """Microseconds since the epoch."""
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """Returns the public fields."""
        return vars(self) | {"at": rfc3339(self.at)}


class HoldStore:
    """Holds on evidence. Safe to use from any thread and process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def set(self, hold: Hold) -> None:
        """Raises ``ValueError`` if there is a hold already."""
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(holds).values(**vars(hold)))
        except IntegrityError as error:
            raise ValueError(f"the evidence of {hold.finding_id} is on hold already") from error

    def release(self, finding_id: str) -> None:
        """Raises ``ValueError`` if there is no hold."""
        with self._engine.begin() as connection:
            if not connection.execute(delete(holds).where(holds.c.finding_id == finding_id)).rowcount:
                raise ValueError(f"the evidence of {finding_id} is not on hold")

    def all(self) -> list[Hold]:
        """Returns all holds, earliest first."""
        with self._engine.connect() as connection:
            return [Hold(**row) for row in connection.execute(select(holds).order_by(holds.c.at)).mappings()]


class Retention:
    """Erases evidence at the end of its retention."""

    def __init__(self, evidence_store: EvidenceStore, engine: Engine, keep: timedelta | None) -> None:
        """``keep`` is the time from the later of end and verdict to erasure; ``None`` keeps evidence forever."""
        self._evidence_store = evidence_store
        self._engine = engine
        self._keep = keep

    def step(self, now: int) -> Sequence[str]:
        """Erases evidence that is due and returns the findings; ``now`` is in microseconds.

        Raises ``OSError`` and the database's errors.
        """
        if self._keep is None:
            return []
        log_ = self._evidence_store.log
        before = now - self._keep // timedelta(microseconds=1)
        kept = {str(UUID(bytes=key)) for key in log_.keys() if key != OF_THE_LOG}  # noqa: SIM118 - not a dict
        over = [one for one in self._over_since(before) if one in kept] + self._joined_before(kept, before)
        due = [one for one in over if log_.entries(key_of(one))]
        if not due:
            return []
        keys = [key_of(one) for one in due]
        runs = sorted(run for key in keys for run in log_.runs(key))
        why = f"kept for {format_duration(self._keep)} after the finding had ended and was judged"
        log_.append(OF_THE_LOG, [written(ExpiredEntry(due, runs, why))], now)
        log_.erase(keys)
        EvidenceErased(findings=len(due), entries=sum(b - a + 1 for a, b in runs)).emit()
        return due

    def _joined_before(self, kept: set[str], time: int) -> list[str]:
        """Returns merged findings that opened before a time; the finding that absorbed them has their evidence too."""
        with self._engine.connect() as connection:
            there = set(connection.execute(select(findings.c.id)).scalars())
            held = set(connection.execute(select(holds.c.finding_id)).scalars())
        until = str(rfc3339(time))
        return [
            one
            for one in sorted(kept - there - held)
            for told in [entry for entry in self._evidence_store.about(one) if isinstance(entry, FindingEntry)][-1:]
            if told.finding["opened_at"] < until
        ]

    def _over_since(self, time: int) -> list[str]:
        """Returns findings that ended and were judged before a time and are not on hold."""
        query = (
            select(findings.c.id)
            .join(triage, triage.c.finding_id == findings.c.id)
            .where(
                triage.c.state == "closed",
                triage.c.changed_at < time,
                findings.c.closed_at < time,
                findings.c.id.not_in(select(holds.c.finding_id)),
            )
            .order_by(findings.c.id)
        )
        with self._engine.connect() as connection:
            return list(connection.execute(query).scalars())
