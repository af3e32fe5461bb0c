"""Triage: what people make of findings. Whether a rule's condition still holds is another matter.

A finding is open until somebody acknowledges or closes it; closing says with which verdict, and why. Every change is
kept, with who made it and when. Changes carry the version they were made from, so that of two people who act at once
the second learns of the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Engine, and_, delete, func, insert, not_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.elements import ColumnElement

from custodes.database.tables import findings, notes, triage
from custodes.findings.model import rfc3339
from custodes.findings.outbox import EntryKind, PendingEntry, record
from custodes.findings.rows import finding_of

TriageState = Literal["open", "acknowledged", "closed"]
Verdict = Literal["confirmed", "explained", "false_positive", "duplicate"]
STATES: tuple[TriageState, ...] = ("open", "acknowledged", "closed")
VERDICTS: Mapping[Verdict, str] = {
    "confirmed": "it is what the rule is for",
    "explained": "it is, and there was a reason",
    "false_positive": "the rule should not have fired",
    "duplicate": "another finding is about the same",
}
"""How a finding can turn out, and what that means."""
_NEWS: dict[TriageState, EntryKind] = {"open": "reopened", "acknowledged": "acknowledged", "closed": "judged"}
MOST_TEXT = 4000
"""Characters of a note."""


class ConflictError(Exception):
    """Somebody else has changed the finding since."""


@dataclass(frozen=True)
class Triage:
    """How a finding stands with people."""

    state: TriageState = "open"
    verdict: Verdict | None = None
    assignee: str | None = None
    version: int = 0
    changed_at: int = 0
    """Microseconds since the epoch; 0 where nobody has touched it."""
    silence: int | None = None
    """The number of the one that closed it."""

    def as_dict(self) -> dict[str, Any]:
        """The public fields."""
        changed_at = rfc3339(self.changed_at) if self.version else None
        return {
            "state": self.state,
            "verdict": self.verdict,
            "assignee": self.assignee,
            "version": self.version,
            "changed_at": changed_at,
        }


@dataclass(frozen=True)
class Note:
    """One entry of a finding's history."""

    at: int
    by: str
    kind: Literal["acknowledged", "closed", "reopened", "assigned", "note"]
    text: str

    def as_dict(self) -> dict[str, Any]:
        """The public fields."""
        return vars(self) | {"at": rfc3339(self.at)}


@dataclass(frozen=True)
class TriageChange:
    """What somebody does with a finding. ``None`` leaves as it is; an ``assignee`` of ``""`` is nobody."""

    state: TriageState | None = None
    verdict: Verdict | None = None
    assignee: str | None = None
    note: str = ""
    version: int | None = None
    """The one it was made from; ``None`` takes any."""

    def __post_init__(self) -> None:
        """Raises ``ValueError`` for what cannot be done."""
        if (self.state == "closed") != (self.verdict is not None):
            raise ValueError("closing wants a verdict, and only closing has one")
        if self.state == "closed" and self.verdict != "confirmed" and not self.note.strip():
            raise ValueError("say in the note why it is closed so")
        if len(self.note) > MOST_TEXT:
            raise ValueError(f"the note has {len(self.note)} characters; at most {MOST_TEXT} are kept")
        if self.state is None and self.assignee is None and not self.note.strip():
            raise ValueError("nothing is to be changed")

    @property
    def action(self) -> str:
        """What it does, in a word."""
        names = {"open": "reopen", "acknowledged": "acknowledge", "closed": "close"}
        return names[self.state] if self.state else "note" if self.assignee is None else "assign"


class TriageStore:
    """What people make of findings, in the database of the findings. Used from any thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def of(self, finding_ids: Iterable[str]) -> dict[str, Triage]:
        """By id; all that are asked for are there."""
        ids = list(finding_ids)
        with self._engine.connect() as connection:
            return {id_: Triage() for id_ in ids} | _read(connection, ids)

    def change(self, finding_id: str, change: TriageChange, by: str, at: int) -> Triage:
        """Does it; ``at`` is in microseconds.

        Raises :class:`ConflictError`, and ``KeyError`` for an id that is no finding's.
        """
        with self._engine.begin() as connection:
            row = connection.execute(select(findings).where(findings.c.id == finding_id)).mappings().first()
            if row is None:
                raise KeyError(finding_id)
            before = _read(connection, [finding_id]).get(finding_id, Triage())
            if change.version is not None and change.version != before.version:
                raise ConflictError(
                    f"the finding is at version {before.version}, the change was made from {change.version}"
                )
            after = Triage(
                state=change.state or before.state,
                verdict=change.verdict if change.state else before.verdict,
                assignee=before.assignee if change.assignee is None else change.assignee or None,
                version=before.version + 1,
                changed_at=at,
            )
            _write(connection, finding_id, before, after)
            for kind, text in _told(change, before):
                note = {"finding_id": finding_id, "at": at, "by": by, "kind": kind, "text": text}
                connection.execute(insert(notes).values(note))
            if change.state is not None:
                record(connection, [PendingEntry(_NEWS[change.state], finding_of(row), by)])
        return after

    def history(self, finding_id: str) -> list[Note]:
        """Everything that was done with a finding, the earliest first."""
        query = select(notes.c.at, notes.c.by, notes.c.kind, notes.c.text)
        query = query.where(notes.c.finding_id == finding_id).order_by(notes.c.at, notes.c.number)
        with self._engine.connect() as connection:
            return [Note(*row) for row in connection.execute(query)]

    def closed(self) -> dict[str, str]:
        """By id of those that are closed, with which verdict."""
        query = select(triage.c.finding_id, triage.c.verdict).where(triage.c.state == "closed")
        with self._engine.connect() as connection:
            return {row.finding_id: row.verdict for row in connection.execute(query)}

    def verdicts(self) -> dict[str, dict[str, int]]:
        """By rule id, how many findings were closed with each verdict."""
        query = (
            select(findings.c.rule_id, triage.c.verdict, func.count())
            .join(triage, triage.c.finding_id == findings.c.id)
            .where(triage.c.state == "closed")
            .group_by(findings.c.rule_id, triage.c.verdict)
        )
        counted: dict[str, dict[str, int]] = {}
        with self._engine.connect() as connection:
            for rule_id, verdict, count in connection.execute(query):
                counted.setdefault(rule_id, {})[verdict] = count
        return counted


def is_in_state(finding_id: ColumnElement[str], state: str) -> ColumnElement[bool]:
    """The condition that a finding is in a state; nobody's are open."""
    if state == "open":
        return not_(
            select(triage.c.finding_id).where(triage.c.finding_id == finding_id, triage.c.state != "open").exists()
        )
    return select(triage.c.finding_id).where(triage.c.finding_id == finding_id, triage.c.state == state).exists()


def closed_ones(connection: Connection, finding_ids: Sequence[str]) -> dict[str, Triage]:
    """By id, how those of the findings stand that are closed."""
    return {id_: stands for id_, stands in _read(connection, finding_ids).items() if stands.state == "closed"}


def hand_over(connection: Connection, swallowed: str, survivor: str) -> None:
    """A finding became part of another: what people wrote goes with it, and how it stood if the other was untouched."""
    connection.execute(update(notes).where(notes.c.finding_id == swallowed).values(finding_id=survivor))
    theirs = triage.c.finding_id == swallowed
    if connection.execute(select(triage.c.finding_id).where(triage.c.finding_id == survivor)).first() is None:
        connection.execute(update(triage).where(theirs).values(finding_id=survivor))
    else:
        connection.execute(delete(triage).where(theirs))


def _read(connection: Connection, finding_ids: Sequence[str]) -> dict[str, Triage]:
    query = select(triage).where(triage.c.finding_id.in_(finding_ids))
    rows = (dict(row) for row in connection.execute(query).mappings())
    return {row.pop("finding_id"): Triage(**row) for row in rows}


def _write(connection: Connection, finding_id: str, before: Triage, after: Triage) -> None:
    """Raises :class:`ConflictError` where another transaction was first."""
    if before.version == 0:
        try:
            connection.execute(insert(triage).values(finding_id=finding_id, **vars(after)))
        except IntegrityError as error:
            raise ConflictError("the finding was changed meanwhile") from error
        return
    same = and_(triage.c.finding_id == finding_id, triage.c.version == before.version)
    if not connection.execute(update(triage).where(same).values(**vars(after))).rowcount:
        raise ConflictError("the finding was changed meanwhile")


def _told(change: TriageChange, before: Triage) -> list[tuple[str, str]]:
    """The entries a change leaves in the history."""
    told: list[tuple[str, str]] = []
    if change.assignee is not None and (change.assignee or None) != before.assignee:
        told.append(("assigned", change.assignee))
    if change.state == "closed":
        told.append(("closed", f"{change.verdict}: {change.note}" if change.note.strip() else str(change.verdict)))
    elif change.state is not None:
        told.append(("acknowledged" if change.state == "acknowledged" else "reopened", change.note))
    elif change.note.strip():
        told.append(("note", change.note))
    return told
