"""Triage: what investigators decide about findings, independent of whether the condition still holds.

A finding is open until an account acknowledges or closes it; closing needs a verdict and a reason. Every change is
stored with account and time. A change names the version it is based on, so that of two concurrent changes the second is
refused.
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
    "confirmed": "the rule found a real case",
    "explained": "the condition was met for a legitimate reason",
    "false_positive": "the rule should not have fired",
    "duplicate": "another finding covers the same case",
}
"""Verdicts, and the meaning of each."""
_NEWS: dict[TriageState, EntryKind] = {"open": "reopened", "acknowledged": "acknowledged", "closed": "judged"}
MOST_TEXT = 4000
"""Largest number of characters of a note."""


class ConflictError(Exception):
    """The finding was changed by another account meanwhile."""


@dataclass(frozen=True)
class Triage:
    """The triage state of a finding."""

    state: TriageState = "open"
    verdict: Verdict | None = None
    assignee: str | None = None
    version: int = 0
    changed_at: int = 0
    """Microseconds since the epoch; 0 if it was never changed."""
    silence: int | None = None
    """Number of the silence that closed it."""

    def as_dict(self) -> dict[str, Any]:
        """Returns the public fields."""
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
        """Returns the public fields."""
        return vars(self) | {"at": rfc3339(self.at)}


@dataclass(frozen=True)
class TriageChange:
    """A requested change. ``None`` leaves a field unchanged; an empty ``assignee`` removes the assignment."""

    state: TriageState | None = None
    verdict: Verdict | None = None
    assignee: str | None = None
    note: str = ""
    version: int | None = None
    """Version the change is based on; ``None`` accepts any."""

    def __post_init__(self) -> None:
        """Raises ``ValueError`` for an invalid change."""
        if (self.state == "closed") != (self.verdict is not None):
            raise ValueError("closing requires a verdict, and other changes must not have one")
        if self.state == "closed" and self.verdict != "confirmed" and not self.note.strip():
            raise ValueError("a note that explains the verdict is required")
        if len(self.note) > MOST_TEXT:
            raise ValueError(f"the note has {len(self.note)} characters, and at most {MOST_TEXT} are allowed")
        if self.state is None and self.assignee is None and not self.note.strip():
            raise ValueError("the change contains nothing to change")

    @property
    def action(self) -> str:
        """Name of the action."""
        names = {"open": "reopen", "acknowledged": "acknowledge", "closed": "close"}
        return names[self.state] if self.state else "note" if self.assignee is None else "assign"


class TriageStore:
    """Triage states, in the findings database. Safe to use from any thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def of(self, finding_ids: Iterable[str]) -> dict[str, Triage]:
        """Returns the states by id, for every requested id."""
        ids = list(finding_ids)
        with self._engine.connect() as connection:
            return {id_: Triage() for id_ in ids} | _read(connection, ids)

    def change(self, finding_id: str, change: TriageChange, by: str, at: int) -> Triage:
        """Applies a change; ``at`` is in microseconds.

        Raises :class:`ConflictError`, and ``KeyError`` for an unknown finding.
        """
        with self._engine.begin() as connection:
            row = connection.execute(select(findings).where(findings.c.id == finding_id)).mappings().first()
            if row is None:
                raise KeyError(finding_id)
            before = _read(connection, [finding_id]).get(finding_id, Triage())
            if change.version is not None and change.version != before.version:
                raise ConflictError(
                    f"the finding is at version {before.version}, and the change is based on version {change.version}"
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
        """Returns the history of a finding, earliest first."""
        query = select(notes.c.at, notes.c.by, notes.c.kind, notes.c.text)
        query = query.where(notes.c.finding_id == finding_id).order_by(notes.c.at, notes.c.number)
        with self._engine.connect() as connection:
            return [Note(*row) for row in connection.execute(query)]

    def closed(self) -> dict[str, str]:
        """Returns the verdicts of closed findings, by id."""
        query = select(triage.c.finding_id, triage.c.verdict).where(triage.c.state == "closed")
        with self._engine.connect() as connection:
            return {row.finding_id: row.verdict for row in connection.execute(query)}

    def verdicts(self) -> dict[str, dict[str, int]]:
        """Returns the number of findings per verdict, by rule id."""
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
    """Returns the condition that a finding is in a state; a finding without a row is open."""
    if state == "open":
        return not_(
            select(triage.c.finding_id).where(triage.c.finding_id == finding_id, triage.c.state != "open").exists()
        )
    return select(triage.c.finding_id).where(triage.c.finding_id == finding_id, triage.c.state == state).exists()


def closed_ones(connection: Connection, finding_ids: Sequence[str]) -> dict[str, Triage]:
    """Returns the triage states of the closed ones among some findings, by id."""
    return {id_: stands for id_, stands in _read(connection, finding_ids).items() if stands.state == "closed"}


def hand_over(connection: Connection, swallowed: str, survivor: str) -> None:
    """Moves notes and, if the other finding is untouched, the state of a merged finding to the finding that absorbed
    it."""
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
    """Raises :class:`ConflictError` if another transaction was first."""
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
    """Yields the history entries of a change."""
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
