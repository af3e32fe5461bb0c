"""The findings store: one row a finding, in SQLite by default, in PostgreSQL where several workers share it.

Writing is idempotent. A change is looked up by its id, else by rule, group and an interval that overlaps or
joins; so hearing events again, in any allowed order, updates a finding and never makes a second one.

Workers that share a database claim the tasks whose findings they tell of. A claim fences: who had the task before, and
does not know yet that it was given to another, is refused from then on.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Select,
    String,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    not_,
    or_,
    select,
    tuple_,
    type_coerce,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from custodes._core import FindingChange
from custodes.database import open_database, tables
from custodes.encryption import NO_KEYS, Keys, group_text
from custodes.findings.gaps import Missed
from custodes.findings.model import Finding
from custodes.findings.news import Piece, record
from custodes.findings.rows import finding_of, row_of
from custodes.findings.shortfalls import Shortfall
from custodes.findings.silences import Silence, close_silently, silences_after
from custodes.findings.triage import hand_over, is_closed, is_in_state
from custodes.rules import Rule
from custodes.rules.model import LEVELS

StoreError = SQLAlchemyError
"""What the store raises when the database refuses: full, locked, damaged, gone."""

_findings, _gaps, _shortfalls = tables.findings, tables.gaps, tables.shortfalls
_claims, _workers = tables.claims, tables.workers

# Built once: making a statement costs more than running it.
_BY_ID = select(_findings).where(_findings.c.id == bindparam("known_as"))
_BY_IDS = select(_findings).where(_findings.c.id.in_(bindparam("known_as", expanding=True)))
_NEAR = (
    select(_findings)
    .where(
        _findings.c.rule_id == bindparam("of_rule"),
        _findings.c.group == bindparam("of_group"),
        _findings.c.held_until >= bindparam("from_"),
        _findings.c.held_from <= bindparam("until"),
    )
    .order_by(_findings.c.held_from)
)
_INSERT = insert(_findings)
_UPDATE = (
    update(_findings)
    .where(_findings.c.id == bindparam("known_as"))
    .values({name: bindparam(name) for name in _findings.c.keys() if name != "id"})  # noqa: SIM118 - not a dict
)

_CLOSE = (
    update(_findings)
    .where(_findings.c.id == bindparam("known_as"), _findings.c.closed_at.is_(None))
    .values(closed_at=bindparam("end"), held_until=bindparam("end"))
)

_NOBODY_CLOSED = not_(is_in_state(_findings.c.id, "closed"))
_RANKS = {level: rank for rank, level in enumerate(LEVELS)}

_FORGOTTEN_AFTER = 86_400.0
"""Seconds after which a worker that was not heard of is no longer listed."""

_PATIENCE_MS = 5000

_MOST_AT_ONCE = 500
"""Ids in one statement; databases limit them."""


class FencedError(Exception):
    """Another worker has claimed the task since."""


@dataclass(frozen=True)
class Claim:
    """The right to tell of a task's findings, until the next one claims it."""

    task: str
    epoch: int


@dataclass(frozen=True)
class Page:
    """A page of findings, newest first."""

    findings: list[Finding]
    next: str | None
    """Where the next page starts; ``None`` on the last one."""


@dataclass
class _Writing:
    """A transaction, and the news that it makes."""

    connection: Connection
    pieces: list[Piece] = field(default_factory=list)

    @cached_property
    def _silences(self) -> list[Silence]:
        now = int(time.time() * 1e6)
        return [one for one in silences_after(self.connection, now) if one.since <= now]

    def opens(self, finding: Finding) -> str:
        """A finding is there: tells of it, or closes it where it was expected."""
        silence = next((one for one in self._silences if one.covers(finding)), None)
        if silence is not None:
            close_silently(self.connection, finding, silence, int(time.time() * 1e6))
            return "silenced"
        self.pieces.append(Piece("opened", finding))
        return "opened"

    def ends(self, finding: Finding) -> str:
        """A finding's condition holds no longer: tells of it, if anybody was told of its opening."""
        judged = is_closed(self.connection, finding.id)
        if judged is None or judged.silence is None:
            self.pieces.append(Piece("closed", finding))
        return "closed" if judged is None else "ended"

    def shared_groups(self, findings: Iterable[Finding]) -> set[tuple[str, str]]:
        """Of these findings' rules and groups, those that have another finding as well."""
        keys = sorted({_key(finding) for finding in findings})
        if not keys:
            return set()
        rule_id, group = _findings.c.rule_id, _findings.c.group
        query = select(rule_id, group).where(tuple_(rule_id, group).in_(keys))
        query = query.group_by(rule_id, group).having(func.count() > 1)
        return {(row[0], row[1]) for row in self.connection.execute(query)}


class FindingStore:
    """Findings in a SQL database. One writer a task; readers may be in other threads."""

    def __init__(self, url: str, keys: Keys = NO_KEYS) -> None:
        """``keys`` is what names are encrypted by. Raises :data:`StoreError` for a database that cannot be had."""
        self.engine = open_database(url, keys=keys)
        self._url, self._keys = url, keys
        self._known_as: dict[str, str] = {}

    def claim(self, task: str, worker: str) -> Claim:
        """Takes a task over from whoever has it."""
        its = _claims.c.task == task
        with self.engine.begin() as connection:
            taken = connection.execute(update(_claims).where(its).values(epoch=_claims.c.epoch + 1, worker=worker))
            if not taken.rowcount:
                # Of two that claim a new task at once, one is refused and tries again.
                connection.execute(insert(_claims).values(task=task, epoch=1, worker=worker))
            epoch = connection.execute(select(_claims.c.epoch).where(its)).scalar_one()
        return Claim(task, epoch)

    def holds(self, claim: Claim) -> bool:
        """Whether the claim is in force."""
        try:
            with self.engine.begin() as connection:
                self._check(connection, claim)
        except FencedError:
            return False
        return True

    def _check(self, connection: Connection, claim: Claim | None) -> None:
        """Holds the claim for the rest of the transaction, or raises :class:`FencedError`."""
        if claim is None:
            return
        query = select(_claims.c.epoch).where(_claims.c.task == claim.task).with_for_update(read=True)
        if connection.execute(query).scalar_one_or_none() != claim.epoch:
            raise FencedError(f"{claim.task} is another worker's")

    def apply(
        self, changes: Iterable[FindingChange], rules: Sequence[Rule], claim: Claim | None = None
    ) -> list[tuple[str, Finding]]:
        """Takes the engine's changes in, in one transaction.

        Returns what is new to the store, with each change's kind; a replay's ``opened`` is an ``updated`` here, one
        that was expected ``silenced``, and one that ends after somebody has closed it ``ended``. Raises
        :class:`FencedError` where the claim is no longer in force.
        """
        news: list[tuple[str, Finding]] = []
        with self._writing(claim) as writing:
            for change in changes:
                told = Finding.of(change, rules)
                if change.kind == "merged":
                    self._merge(writing, told, change.merged_into)
                    continue
                stored = self._find(writing.connection, told)
                if stored is None:
                    writing.connection.execute(_INSERT, row_of(told))
                    news.append((writing.opens(told), told))
                    if change.kind == "closed":
                        news.append((writing.ends(told), told))
                    continue
                if stored.id != told.id:
                    self._known_as[told.id] = stored.id
                current = stored.updated_by(told)
                if current != stored:
                    current = self._absorb(writing, stored, current)
                    writing.connection.execute(_UPDATE, row_of(current) | {"known_as": stored.id})
                    ends = current.closed_at is not None and stored.closed_at is None
                    news.append((writing.ends(current) if ends else "updated", current))
                if change.kind == "closed":
                    self._known_as.pop(told.id, None)
        return news

    def refresh(self, changes: Sequence[FindingChange], rules: Sequence[Rule], claim: Claim | None = None) -> None:
        """Takes in changes of findings that only grew: there can be thousands of them at once."""
        with self._writing(claim) as writing:
            for start in range(0, len(changes), _MOST_AT_ONCE):
                self._refresh(writing, [Finding.of(one, rules) for one in changes[start : start + _MOST_AT_ONCE]])

    def _refresh(self, writing: _Writing, findings: Sequence[Finding]) -> None:
        told: defaultdict[str, list[Finding]] = defaultdict(list)
        for finding in findings:
            told[self._known_as.get(finding.id, finding.id)].append(finding)
        rows = writing.connection.execute(_BY_IDS, {"known_as": list(told)}).mappings().all()
        grown = [
            (stored, current)
            for stored in map(finding_of, rows)
            if (current := reduce(Finding.updated_by, told[stored.id], stored)) != stored
        ]
        shared = writing.shared_groups(current for _, current in grown)
        updates = [
            row_of(self._absorb(writing, stored, current) if _key(current) in shared else current)
            | {"known_as": stored.id}
            for stored, current in grown
        ]
        if updates:
            writing.connection.execute(_UPDATE, updates)

    @contextmanager
    def _writing(self, claim: Claim | None) -> Iterator[_Writing]:
        """A transaction, at whose end the news of it are written."""
        with self.engine.begin() as connection:
            self._check(connection, claim)
            writing = _Writing(connection)
            yield writing
            record(connection, writing.pieces)

    def _find(self, connection: Connection, told: Finding) -> Finding | None:
        known_as = self._known_as.get(told.id, told.id)
        row = connection.execute(_BY_ID, {"known_as": known_as}).mappings().first()
        if row is None:
            return next(self._near(connection, told), None)
        return finding_of(row)

    def _near(self, connection: Connection, finding: Finding) -> Iterator[Finding]:
        """Rows that are the same finding: same rule and group, and the intervals overlap or join."""
        near = {
            "of_rule": finding.rule_id,
            "of_group": group_text(finding.group),
            "from_": finding.held_from - finding.keep_open,
            "until": finding.held_until + finding.keep_open,
        }
        return map(finding_of, connection.execute(_NEAR, near).mappings().all())

    def _absorb(self, writing: _Writing, stored: Finding, grown: Finding) -> Finding:
        """A finding that has grown, with those it has come to reach, whose rows go.

        The engine tells of such a joining itself, but not of one it lost in a crash between two findings that, hearing
        events again in another order, it then never saw apart.
        """
        if (stored.held_from, stored.held_until) == (grown.held_from, grown.held_until):
            return grown
        for other in self._near(writing.connection, grown):
            if other.id != stored.id:
                self._remove(writing, other.id, stored.id)
                self._known_as[other.id] = stored.id
                grown = replace(other, closed_at=None).updated_by(grown)
        return replace(grown, id=stored.id)

    def _merge(self, writing: _Writing, told: Finding, into: str | None) -> None:
        """``told`` was swallowed by ``into``, whose joined figures follow."""
        swallowed = self._known_as.pop(told.id, told.id)
        if into is not None and (survivor := self._known_as.get(into, into)) != swallowed:
            self._remove(writing, swallowed, survivor)

    @staticmethod
    def _remove(writing: _Writing, swallowed: str, survivor: str) -> None:
        """Removes a finding that is part of another now, which has what people made of it."""
        row = writing.connection.execute(_BY_ID, {"known_as": swallowed}).mappings().first()
        if row is not None:
            writing.pieces.append(Piece("merged", finding_of(row)))
        writing.connection.execute(delete(_findings).where(_findings.c.id == swallowed))
        hand_over(writing.connection, swallowed, survivor)

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
        """A page of findings, newest first. ``after`` is the ``next`` of the page before.

        ``state`` is what people made of it; ``group`` has values that the finding's group has, and maybe others beside.

        Raises ``ValueError`` for an ``after`` that no page gave.
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

    def to_judge(self, limit: int) -> tuple[int, list[Finding]]:
        """How many findings nobody has closed, and the most urgent of them first: by level, those that go on before
        those that have ended, and by how far above their thresholds they went."""
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
        """The findings that opened at or after a time, in microseconds; the rest as in :meth:`page`."""
        query = self._of_group(select(_findings).where(_findings.c.opened_at >= time), group)
        if rule_id is not None:
            query = query.where(_findings.c.rule_id == rule_id)
        with self.engine.connect() as connection:
            return [finding_of(row) for row in connection.execute(query).mappings()]

    def about_then(self, finding: Finding, span: int, limit: int) -> list[Finding]:
        """Others of the same rule that opened within ``span`` microseconds of a finding, the nearest first."""
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
        """The findings whose ids begin so; two at most."""
        query = select(_findings).where(_findings.c.id.startswith(beginning, autoescape=True)).limit(2)
        with self.engine.connect() as connection:
            return [finding_of(row) for row in connection.execute(query).mappings()]

    def record_gap(self, missed: Missed) -> None:
        """Keeps what was never seen. A gap noticed again after a restart is the same."""
        same = and_(*(_gaps.c[name] == getattr(missed, name) for name in ("place", "expected", "position")))
        with self.engine.begin() as connection:
            if connection.execute(select(_gaps).where(same)).first() is None:
                connection.execute(insert(_gaps).values(vars(missed)))

    def gaps(self, limit: int = 100) -> list[Missed]:
        """What was never seen, the latest first."""
        query = select(_gaps).order_by(_gaps.c.noticed_at.desc(), _gaps.c.place, _gaps.c.expected).limit(limit)
        with self.engine.connect() as connection:
            return [Missed(**row) for row in connection.execute(query).mappings()]

    def record_shortfalls(self, shortfalls: Iterable[Shortfall]) -> None:
        """Keeps where findings fall short; one that is known has gone on."""
        with self.engine.begin() as connection:
            for shortfall in shortfalls:
                row = vars(shortfall)
                same = and_(*(_shortfalls.c[name] == row[name] for name in ("kind", "rule_id", "since")))
                if not connection.execute(update(_shortfalls).where(same).values(row)).rowcount:
                    connection.execute(insert(_shortfalls).values(row))

    def shortfalls(self, limit: int = 100) -> list[Shortfall]:
        """Where findings fall short, the latest first."""
        table = _shortfalls.c
        query = select(_shortfalls).order_by(table.since.desc(), table.rule_id, table.kind).limit(limit)
        with self.engine.connect() as connection:
            return [Shortfall(**row) for row in connection.execute(query).mappings()]

    def close_left_open(self, ended: Iterable[tuple[str, int]]) -> None:
        """Closes findings of rules that are gone: ids and ends of what is known of them, microseconds."""
        rows = [{"known_as": self._known_as.pop(id_, id_), "end": end} for id_, end in ended]
        with self._writing(None) as writing:
            for row in rows:
                if writing.connection.execute(_CLOSE, row).rowcount:
                    closed = writing.connection.execute(_BY_ID, {"known_as": row["known_as"]}).mappings().one()
                    writing.ends(finding_of(closed))

    def tell_of_worker(self, name: str, now: float, status: str) -> None:
        """Keeps how a worker stands, as JSON, for the others to show; ``now`` is in epoch seconds."""
        row = {"seen_at": now, "status": status}
        with self.engine.begin() as connection:
            if not connection.execute(update(_workers).where(_workers.c.name == name).values(row)).rowcount:
                connection.execute(insert(_workers).values(name=name, **row))
            connection.execute(delete(_workers).where(_workers.c.seen_at < now - _FORGOTTEN_AFTER))

    def workers(self) -> list[tuple[str, float, str]]:
        """Name, when it was last heard of, and status of every worker that shares the database."""
        with self.engine.connect() as connection:
            found = connection.execute(select(_workers).order_by(_workers.c.name))
            return [(row.name, row.seen_at, row.status) for row in found]

    def open_counts(self) -> dict[str, int]:
        """By rule id, how many findings' conditions hold that nobody has closed."""
        rule_id = _findings.c.rule_id
        query = select(rule_id, func.count()).where(_findings.c.closed_at.is_(None), _NOBODY_CLOSED).group_by(rule_id)
        with self.engine.connect() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def tallies(self) -> dict[str, tuple[int, int]]:
        """By rule id, how many findings there are, and when the last of them opened."""
        query = select(_findings.c.rule_id, func.count(), func.max(_findings.c.opened_at)).group_by(_findings.c.rule_id)
        with self.engine.connect() as connection:
            return {rule_id: (count, last) for rule_id, count, last in connection.execute(query)}

    @cached_property
    def peoples(self) -> Engine:
        """The database for what people do: they wait for their turn, where the monitor would rather come back."""
        is_apart = self.engine.dialect.name == "sqlite" and self.engine.url.database
        return open_database(self._url, _PATIENCE_MS, self._keys) if is_apart else self.engine

    def _of_group(self, query: Select[Any], group: Mapping[str, str]) -> Select[Any]:
        """Those whose group has these values: it is JSON written in one way, so what is in it stands there just so."""
        as_it_stands = type_coerce(_findings.c.group, String)
        for name, value in group.items():
            pair = self._keys.hide_group(group_text({name: value}))[1:-1]
            query = query.where(as_it_stands.contains(pair, autoescape=True))
        return query

    def close(self) -> None:
        if "peoples" in vars(self):
            self.peoples.dispose()
        self.engine.dispose()


def _key(finding: Finding) -> tuple[str, str]:
    """Its rule and its group, as they stand in the table."""
    return finding.rule_id, group_text(finding.group)


def _read_cursor(cursor: str) -> tuple[int, str]:
    opened_at, _, id_ = cursor.partition(":")
    if not opened_at.lstrip("-").isdigit() or not id_:
        raise ValueError(f"'{cursor}' is no page's next")
    return int(opened_at), id_
