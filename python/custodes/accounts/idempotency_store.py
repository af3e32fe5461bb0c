"""Stored responses for retried requests, kept for a day."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sqlalchemy import Engine, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from custodes.database.tables import answers

_DAY = 86_400_000_000
_LONGEST = 60_000_000
"""Microseconds after which a request without a response may be retried: the process that ran it is gone."""


class KeyReusedError(Exception):
    """The key was used for a different request."""


class InProgressError(Exception):
    """The same request is in progress."""


@dataclass(frozen=True)
class StoredResponse:
    """A stored response."""

    status: int
    body: str


class IdempotencyStore:
    """Safe to use from any thread. Times are microseconds since the epoch."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def begin(self, owner: str, key: str, request: str, now: int) -> StoredResponse | None:
        """Returns the stored response to this request; ``None`` if the caller must run it now and then call
        :meth:`keep`.

        ``request`` is a digest of the request, of fixed length. Raises :class:`KeyReusedError` and
        :class:`InProgressError`.
        """
        its = answers.c.key == _name(owner, key)
        fresh = {"key": _name(owner, key), "request": request, "at": now}
        with self._engine.begin() as connection:
            connection.execute(delete(answers).where(answers.c.at < now - _DAY))
            gone = answers.c.status.is_(None) & (answers.c.at < now - _LONGEST)
            connection.execute(delete(answers).where(its, gone))
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(answers).values(fresh))
        except IntegrityError:
            with self._engine.connect() as connection:
                row = connection.execute(select(answers).where(its)).mappings().first()
            if row is None or (row["status"] is None and row["request"] == request):
                raise InProgressError("the same request is in progress; retry in a moment") from None
            if row["request"] != request:
                raise KeyReusedError("this Idempotency-Key was used for a different request") from None
            return StoredResponse(row["status"], row["body"])
        return None

    def keep(self, owner: str, key: str, answer: StoredResponse | None) -> None:
        """Stores a response; with ``None`` the request may be retried at once."""
        its = answers.c.key == _name(owner, key)
        with self._engine.begin() as connection:
            if answer is None:
                connection.execute(delete(answers).where(its))
            else:
                connection.execute(update(answers).where(its).values(vars(answer)))


def _name(owner: str, key: str) -> str:
    return hashlib.sha256(f"{owner}\0{key}".encode()).hexdigest()
