"""The findings store: one row per finding, in SQLite by default, in PostgreSQL if several workers share it.

Writes are idempotent. A change is matched by its id, otherwise by rule, group and an overlapping or touching interval,
so replaying events in any allowed order updates a finding and never creates a second one.

Workers that share a database claim the tasks whose findings they write. A claim is a fence: the previous owner of a
task, even if it does not know yet that it lost the task, is refused from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar

from sqlalchemy import (
    Connection,
    Engine,
    Select,
    String,
    and_,
    case,
    delete,
    func,
    insert,
    not_,
    or_,
    select,
    type_coerce,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from custodes._core import FindingChange
from custodes.config.normal_forms import NormalForms
from custodes.database import open_database, tables
from custodes.database.refusals import REFUSALS, is_refusal
from custodes.encryption.keys import NO_KEYS, Keys, group_text
from custodes.findings.gaps import MissedRecords
from custodes.findings.model import Finding
from custodes.findings.refused import RefusedRows
from custodes.findings.rows import finding_of
from custodes.findings.shortfalls import Shortfall
from custodes.findings.triage import is_in_state
from custodes.findings.upsert import MOST_AT_ONCE, FindingUpsert, NewEntries
from custodes.rules import Rule
from custodes.rules.model import LEVELS

StoreError = SQLAlchemyError
"""Errors of a database that refuses: full, locked, damaged, unreachable."""

_findings, _gaps, _shortfalls = tables.findings, tables.gaps, tables.shortfalls
_claims, _workers = tables.claims, tables.workers

_NOBODY_CLOSED = not_(is_in_state(_findings.c.id, "closed"))
_RANKS = {level: rank for rank, level in enumerate(LEVELS)}

_FORGOTTEN_AFTER = 86_400.0
"""Seconds without a status report after which a worker is no longer listed."""

_PATIENCE_MS = 5000

_T = TypeVar("_T")


class FencedError(Exception):
    """Another worker has claimed the task."""


@dataclass(frozen=True)
class Claim:
    """The right to write the findings of a task, until another worker claims it."""

    task: str
    epoch: int


@dataclass(frozen=True)
class Page:
    """A page of findings, newest first."""

    findings: list[Finding]
    next: str | None
    """Cursor of the next page; ``None`` on the last page."""


class FindingStore:
    """Findings in a SQL database. One writer per task; readers may use other threads."""

    def __init__(self, url: str, keys: Keys = NO_KEYS) -> None:
        """``keys`` encrypt names. Raises :data:`StoreError` if the database is unusable."""
        self.engine = open_database(url, keys=keys)
        self._url, self._keys = url, keys
        self._known_as: dict[str, str] = {}
        self.forms = NormalForms()
        """Normal forms in which groups are compared; replaced when the mapping changes."""
        self.refused = RefusedRows()
        """What the database refused for its content."""

    def claim(self, task: str, worker: str) -> Claim:
        """Claims a task, which fences its previous owner."""
        its = _claims.c.task == task
        with self.engine.begin() as connection:
            taken = connection.execute(update(_claims).where(its).values(epoch=_claims.c.epoch + 1, worker=worker))
            if not taken.rowcount:
                # If two workers claim a new task at once, one is refused and retries.
                connection.execute(insert(_claims).values(task=task, epoch=1, worker=worker))
            epoch = connection.execute(select(_claims.c.epoch).where(its)).scalar_one()
        return Claim(task, epoch)

    def holds(self, claim: Claim) -> bool:
        """Returns whether the claim is in force."""
        try:
            with self.engine.begin() as connection:
                self._check(connection, claim)
        except FencedError:
            return False
        return True

    def _check(self, connection: Connection, claim: Claim | None) -> None:
        """Locks the claim for the rest of the transaction, or raises :class:`FencedError`."""
        if claim is None:
            return
        query = select(_claims.c.epoch).where(_claims.c.task == claim.task).with_for_update(read=True)
        if connection.execute(query).scalar_one_or_none() != claim.epoch:
            raise FencedError(f"{claim.task} is claimed by another worker")

    def apply(
        self, changes: Iterable[FindingChange], rules: Sequence[Rule], claim: Claim | None = None
    ) -> list[tuple[str, Finding]]:
        """Applies changes of the engine in one transaction.

        Returns the findings that are new to the store, with the kind of each change: a replayed ``opened`` becomes
        ``updated``, a finding under a silence ``silenced``, and a finding that ends after it was closed ``ended``.
        Raises :class:`FencedError` if the claim is no longer in force.
        """
        return self._write(
            list(changes), claim, lambda writing, part: writing.apply(part, rules), lambda one: Finding.of(one, rules)
        )

    def refresh(self, changes: Sequence[FindingChange], rules: Sequence[Rule], claim: Claim | None = None) -> None:
        """Applies changes of findings that only grew; there can be thousands at once."""
        self._write(
            changes, claim, lambda writing, part: writing.refresh(part, rules), lambda one: Finding.of(one, rules)
        )

    def _write(
        self,
        parts: Sequence[_T],
        claim: Claim | None,
        write: Callable[[FindingUpsert, Sequence[_T]], NewEntries],
        finding_of_part: Callable[[_T], Finding | None],
    ) -> NewEntries:
        """Writes parts in one transaction, with the outbox entries at its end, and returns what is new.

        Parts that the database refuses for their content are put aside and reported; all others are written.
        """
        if not parts:
            return []
        try:
            with self.engine.begin() as connection:
                self._check(connection, claim)
                writing = FindingUpsert(connection, self._known_as)
                news = [one for chunk in _chunks(parts) for one in write(writing, chunk)]
                writing.tell()
                return news
        except REFUSALS as error:
            if not is_refusal(error):
                raise
        with self.engine.begin() as connection:
            if connection.dialect.name == "sqlite":
                # Python's driver would begin after the first savepoint, whose release would then commit.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            self._check(connection, claim)
            return [one for part in parts for one in self._write_one(connection, part, write, finding_of_part)]

    def _write_one(
        self,
        connection: Connection,
        part: _T,
        write: Callable[[FindingUpsert, Sequence[_T]], NewEntries],
        finding_of_part: Callable[[_T], Finding | None],
    ) -> NewEntries:
        """Writes one part; a refused part or notification is put aside without an effect on the transaction."""
        known_as = dict(self._known_as)
        writing = FindingUpsert(connection, self._known_as)
        try:
            with connection.begin_nested():
                news = write(writing, [part])
        except REFUSALS as error:
            if not is_refusal(error):
                raise
            self._known_as.clear()
            self._known_as.update(known_as)
            if (finding := finding_of_part(part)) is not None:
                with suppress(*REFUSALS), connection.begin_nested():
                    _extend(connection, self.refused.finding(finding, error))
            return []
        try:
            with connection.begin_nested():
                writing.tell()
        except REFUSALS as error:
            if not is_refusal(error):
                raise
            for id_ in writing.announced:
                self.refused.notification(id_, error)
        return news

    def page(
        self,
        limit: int = 100,
        after: str | None = None,
        *,
        open_only: bool = False,
        rule_id: str | None = None,
        level: str | None = None,
        state: str | None = None,
        group: Mapping[str, str] = MappingProxyType({}),
    ) -> Page:
        """Returns a page of findings, newest first. ``after`` is the ``next`` cursor of the previous page.

        ``state`` is the triage state; ``group`` has values that the group of a finding must contain.

        Raises ``ValueError`` for an invalid cursor.
        """
        query = select(_findings).order_by(_findings.c.opened_at.desc(), _findings.c.id.desc()).limit(limit + 1)
        if after is not None:
            opened_at, id_ = _read_cursor(after)
            at = _findings.c.opened_at
            query = query.where(or_(at < opened_at, and_(at == opened_at, _findings.c.id < id_)))
        if open_only:
            query = query.where(_findings.c.closed_at.is_(None))
        if rule_id is not None:
            query = query.where(_findings.c.rule_id == rule_id)
        if level is not None:
            query = query.where(_findings.c.level == level)
        if state is not None:
            query = query.where(is_in_state(_findings.c.id, state))
        query = self._of_group(query, group)
        with self.engine.connect() as connection:
            found = [finding_of(row) for row in connection.execute(query).mappings()]
        more = len(found) > limit
        found = found[:limit]
        return Page(found, f"{found[-1].opened_at}:{found[-1].id}" if more else None)

    def unreviewed(self, limit: int) -> tuple[int, list[Finding]]:
        """Returns the number of findings without a closing verdict, and the most urgent of them: by level, ongoing
        before ended, and by multiple of the threshold."""
        table = _findings.c
        goes_on = case((table.closed_at.is_(None), 1), else_=0)
        times = case((table.threshold > 0, table.peak / table.threshold), else_=table.peak)
        rank = case(_RANKS, value=table.level)
        urgency = (rank.desc(), goes_on.desc(), times.desc(), table.opened_at.desc(), table.id)
        with self.engine.connect() as connection:
            count = connection.execute(select(func.count()).select_from(_findings).where(_NOBODY_CLOSED)).scalar_one()
            rows = connection.execute(select(_findings).where(_NOBODY_CLOSED).order_by(*urgency).limit(limit))
            return count, [finding_of(row) for row in rows.mappings()]

    def since(
        self, time: int, group: Mapping[str, str] = MappingProxyType({}), *, rule_id: str | None = None
    ) -> list[Finding]:
        """Returns the findings that opened at or after a time, in microseconds; other arguments as in :meth:`page`."""
        query = self._of_group(select(_findings).where(_findings.c.opened_at >= time), group)
        if rule_id is not None:
            query = query.where(_findings.c.rule_id == rule_id)
        with self.engine.connect() as connection:
            return [finding_of(row) for row in connection.execute(query).mappings()]

    def about_then(self, finding: Finding, span: int, limit: int) -> list[Finding]:
        """Returns other findings of the rule that opened within ``span`` microseconds of a finding, nearest first."""
        table = _findings.c
        apart = func.abs(table.opened_at - finding.opened_at)
        query = (
            select(_findings)
            .where(table.rule_id == finding.rule_id, table.id != finding.id)
            .where(table.opened_at.between(finding.opened_at - span, finding.opened_at + span))
            .order_by(apart, table.id)
            .limit(limit)
        )
        with self.engine.connect() as connection:
            return [finding_of(row) for row in connection.execute(query).mappings()]

    def get(self, finding_id: str) -> Finding | None:
        with self.engine.connect() as connection:
            row = connection.execute(select(_findings).where(_findings.c.id == finding_id)).mappings().first()
        return None if row is None else finding_of(row)

    def beginning_with(self, beginning: str) -> list[Finding]:
        """Returns the findings whose ids begin with a prefix; at most two."""
        query = select(_findings).where(_findings.c.id.startswith(beginning, autoescape=True)).limit(2)
        with self.engine.connect() as connection:
            return [finding_of(row) for row in connection.execute(query).mappings()]

    def record_gap(self, missed: MissedRecords) -> None:
        """Stores a gap. A gap that is reported again after a restart is the same gap."""
        same = and_(*(_gaps.c[name] == getattr(missed, name) for name in ("place", "expected", "position")))
        with self.engine.begin() as connection:
            if connection.execute(select(_gaps).where(same)).first() is None:
                connection.execute(insert(_gaps).values(vars(missed)))

    def gaps(self, limit: int = 100) -> list[MissedRecords]:
        """Returns gaps, latest first."""
        query = select(_gaps).order_by(_gaps.c.noticed_at.desc(), _gaps.c.place, _gaps.c.expected).limit(limit)
        with self.engine.connect() as connection:
            return [MissedRecords(**row) for row in connection.execute(query).mappings()]

    def record_shortfalls(self, shortfalls: Iterable[Shortfall]) -> None:
        """Stores a shortfall, or extends a known one."""
        with self.engine.begin() as connection:
            for shortfall in shortfalls:
                _extend(connection, shortfall)

    def shortfalls(self, limit: int = 100) -> list[Shortfall]:
        """Returns shortfalls, latest first."""
        table = _shortfalls.c
        query = select(_shortfalls).order_by(table.since.desc(), table.rule_id, table.kind).limit(limit)
        with self.engine.connect() as connection:
            return [Shortfall(**row) for row in connection.execute(query).mappings()]

    def close_left_open(self, ended: Iterable[tuple[str, int]]) -> None:
        """Closes findings of removed rules, given by id and end of the known interval in microseconds."""
        self._write(list(ended), None, lambda writing, part: writing.close(part), lambda one: self.get(one[0]))

    def tell_of_worker(self, name: str, now: float, status: str) -> None:
        """Stores a worker's status as JSON, for other workers to show; ``now`` is in epoch seconds."""
        row = {"seen_at": now, "status": status}
        with self.engine.begin() as connection:
            if not connection.execute(update(_workers).where(_workers.c.name == name).values(row)).rowcount:
                connection.execute(insert(_workers).values(name=name, **row))
            connection.execute(delete(_workers).where(_workers.c.seen_at < now - _FORGOTTEN_AFTER))

    def workers(self) -> list[tuple[str, float, str]]:
        """Returns name, time of the last report and status of every worker that shares the database."""
        with self.engine.connect() as connection:
            found = connection.execute(select(_workers).order_by(_workers.c.name))
            return [(row.name, row.seen_at, row.status) for row in found]

    def open_counts(self) -> dict[str, int]:
        """Returns the number of ongoing findings without a closing verdict, by rule id."""
        rule_id = _findings.c.rule_id
        query = select(rule_id, func.count()).where(_findings.c.closed_at.is_(None), _NOBODY_CLOSED).group_by(rule_id)
        with self.engine.connect() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def tallies(self) -> dict[str, tuple[int, int]]:
        """Returns the number of findings and the opening time of the last one, by rule id."""
        query = select(_findings.c.rule_id, func.count(), func.max(_findings.c.opened_at)).group_by(_findings.c.rule_id)
        with self.engine.connect() as connection:
            return {rule_id: (count, last) for rule_id, count, last in connection.execute(query)}

    @cached_property
    def peoples(self) -> Engine:
        """Database connection for people's actions: they wait for a lock, while the monitor prefers to retry."""
        is_apart = self.engine.dialect.name == "sqlite" and self.engine.url.database
        return open_database(self._url, _PATIENCE_MS, self._keys) if is_apart else self.engine

    def _of_group(self, query: Select[Any], group: Mapping[str, str]) -> Select[Any]:
        """Returns the condition that the group has these values, in any spelling: groups are stored as canonical JSON,
        so a substring matches. Those of 0.2 are stored as written."""
        as_it_stands = type_coerce(_findings.c.group, String)
        # Not LIKE, whose patterns SQLite limits to 50,000 bytes, and which ignores the case there.
        position = func.strpos if self.engine.dialect.name == "postgresql" else func.instr
        for name, value in group.items():
            spellings = {self.forms.normal(name, value), value}
            pairs = [self._keys.hide_group(group_text({name: one}))[1:-1] for one in sorted(spellings)]
            query = query.where(or_(*(position(as_it_stands, pair) > 0 for pair in pairs)))
        return query

    def close(self) -> None:
        if "peoples" in vars(self):
            self.peoples.dispose()
        self.engine.dispose()


def _extend(connection: Connection, shortfall: Shortfall) -> None:
    """Stores a shortfall, or updates a known one."""
    row = vars(shortfall)
    same = and_(*(_shortfalls.c[name] == row[name] for name in ("kind", "rule_id", "since")))
    if not connection.execute(update(_shortfalls).where(same).values(row)).rowcount:
        connection.execute(insert(_shortfalls).values(row))


def _chunks(of: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Splits into batches that are written together."""
    return (of[start : start + MOST_AT_ONCE] for start in range(0, len(of), MOST_AT_ONCE))


def _read_cursor(cursor: str) -> tuple[int, str]:
    opened_at, _, id_ = cursor.partition(":")
    if not opened_at.lstrip("-").isdigit() or not id_:
        raise ValueError(f"'{cursor}' is not a cursor of a page")
    return int(opened_at), id_
