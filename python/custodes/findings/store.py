"""The findings store: one row a finding, in SQLite by default.

Writing is idempotent. A change is looked up by its id, else by rule, group and an interval that overlaps or
joins; so hearing events again, in any allowed order, updates a finding and never makes a second one.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    MetaData,
    String,
    Table,
    and_,
    bindparam,
    create_engine,
    delete,
    event,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.engine import RowMapping

from custodes._core import FindingChange
from custodes.findings.model import Finding
from custodes.rules import Rule

_metadata = MetaData()

_table = Table(
    "findings",
    _metadata,
    Column("id", String(36), primary_key=True),
    Column("rule_id", String, nullable=False),
    Column("rule", String, nullable=False),
    Column("level", String, nullable=False),
    Column("group", String, nullable=False),
    Column("opened_at", BigInteger, nullable=False),
    Column("closed_at", BigInteger),
    Column("held_from", BigInteger, nullable=False),
    Column("held_until", BigInteger, nullable=False),
    Column("peak", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("threshold", BigInteger, nullable=False),
    Column("keep_open", BigInteger, nullable=False),
    Index("findings_by_group", "rule_id", "group", "held_until"),
    Index("findings_by_time", "opened_at", "id"),
    Index("findings_open", "closed_at"),
)


# Built once: making a statement costs more than running it.
_BY_ID = select(_table).where(_table.c.id == bindparam("known_as"))
_BY_IDS = select(_table).where(_table.c.id.in_(bindparam("known_as", expanding=True)))
_NEAR = (
    select(_table)
    .where(
        _table.c.rule_id == bindparam("of_rule"),
        _table.c.group == bindparam("of_group"),
        _table.c.held_until >= bindparam("from_"),
        _table.c.held_from <= bindparam("until"),
    )
    .order_by(_table.c.held_from)
)
_INSERT = insert(_table)
_UPDATE = (
    update(_table)
    .where(_table.c.id == bindparam("known_as"))
    .values({name: bindparam(name) for name in _table.c.keys() if name != "id"})  # noqa: SIM118 - not a dict
)

_MOST_AT_ONCE = 500
"""Ids in one statement; databases limit them."""


@dataclass(frozen=True)
class Page:
    """A page of findings, newest first."""

    findings: list[Finding]
    next: str | None
    """Where the next page starts; ``None`` on the last one."""


class FindingStore:
    """Findings in a SQL database. One writer; readers may be in other threads."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url)
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _tune_sqlite)
        _metadata.create_all(self._engine)
        self._known_as: dict[str, str] = {}

    def apply(self, changes: Iterable[FindingChange], rules: Sequence[Rule]) -> list[tuple[str, Finding]]:
        """Takes the engine's changes in, in one transaction.

        Returns what is new to the store, with each change's kind; a replay's ``opened`` is an ``updated`` here.
        """
        news: list[tuple[str, Finding]] = []
        with self._engine.begin() as connection:
            for change in changes:
                told = Finding.of(change, rules)
                if change.kind == "merged":
                    self._merge(connection, told, change.merged_into)
                    continue
                stored = self._find(connection, told)
                if stored is None:
                    connection.execute(_INSERT, _row(told))
                    news.append(("opened", told))
                    if change.kind == "closed":
                        news.append(("closed", told))
                    continue
                if stored.id != told.id:
                    self._known_as[told.id] = stored.id
                current = stored.updated_by(told)
                if current != stored:
                    connection.execute(_UPDATE, _row(current) | {"known_as": stored.id})
                    closed = current.closed_at is not None and stored.closed_at is None
                    news.append(("closed" if closed else "updated", current))
                if change.kind == "closed":
                    self._known_as.pop(told.id, None)
        return news

    def refresh(self, changes: Sequence[FindingChange], rules: Sequence[Rule]) -> None:
        """Takes in changes of findings that only grew: there can be thousands of them at once."""
        with self._engine.begin() as connection:
            for start in range(0, len(changes), _MOST_AT_ONCE):
                told: defaultdict[str, list[Finding]] = defaultdict(list)
                for change in changes[start : start + _MOST_AT_ONCE]:
                    told[self._known_as.get(change.id, change.id)].append(Finding.of(change, rules))
                rows = connection.execute(_BY_IDS, {"known_as": list(told)}).mappings().all()
                grown = [
                    _row(current) | {"known_as": stored.id}
                    for stored in map(_finding, rows)
                    if (current := reduce(Finding.updated_by, told[stored.id], stored)) != stored
                ]
                if grown:
                    connection.execute(_UPDATE, grown)

    def _find(self, connection: Connection, told: Finding) -> Finding | None:
        known_as = self._known_as.get(told.id, told.id)
        row = connection.execute(_BY_ID, {"known_as": known_as}).mappings().first()
        if row is None:
            near = {
                "of_rule": told.rule_id,
                "of_group": _group_text(told.group),
                "from_": told.held_from - told.keep_open,
                "until": told.held_until + told.keep_open,
            }
            row = connection.execute(_NEAR, near).mappings().first()
        return None if row is None else _finding(row)

    def _merge(self, connection: Connection, told: Finding, into: str | None) -> None:
        """``told`` was swallowed by ``into``, whose joined figures follow."""
        swallowed = self._known_as.pop(told.id, told.id)
        if into is not None and self._known_as.get(into, into) != swallowed:
            connection.execute(delete(_table).where(_table.c.id == swallowed))

    def page(
        self,
        limit: int = 100,
        after: str | None = None,
        *,
        open_only: bool = False,
        rule_id: str | None = None,
        level: str | None = None,
    ) -> Page:
        """A page of findings, newest first. ``after`` is the ``next`` of the page before.

        Raises ``ValueError`` for an ``after`` that no page gave.
        """
        query = select(_table).order_by(_table.c.opened_at.desc(), _table.c.id.desc()).limit(limit + 1)
        if after is not None:
            opened_at, id_ = _read_cursor(after)
            at = _table.c.opened_at
            query = query.where(or_(at < opened_at, and_(at == opened_at, _table.c.id < id_)))
        if open_only:
            query = query.where(_table.c.closed_at.is_(None))
        if rule_id is not None:
            query = query.where(_table.c.rule_id == rule_id)
        if level is not None:
            query = query.where(_table.c.level == level)
        with self._engine.connect() as connection:
            found = [_finding(row) for row in connection.execute(query).mappings()]
        more = len(found) > limit
        found = found[:limit]
        return Page(found, f"{found[-1].opened_at}:{found[-1].id}" if more else None)

    def get(self, finding_id: str) -> Finding | None:
        with self._engine.connect() as connection:
            row = connection.execute(select(_table).where(_table.c.id == finding_id)).mappings().first()
        return None if row is None else _finding(row)

    def open_counts(self) -> dict[str, int]:
        """Open findings by rule id."""
        query = select(_table.c.rule_id, func.count()).where(_table.c.closed_at.is_(None)).group_by(_table.c.rule_id)
        with self._engine.connect() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def close(self) -> None:
        self._engine.dispose()


def _tune_sqlite(connection: Any, _: Any) -> None:
    """WAL lets readers and the writer go on together; a full sync is not needed to stay consistent."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA busy_timeout=5000")
    cursor.close()


def _group_text(group: dict[str, str]) -> str:
    return json.dumps(group, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _row(finding: Finding) -> dict[str, Any]:
    return {**vars(finding), "group": _group_text(finding.group)}


def _finding(row: RowMapping) -> Finding:
    return Finding(**{**row, "group": json.loads(row["group"])})


def _read_cursor(cursor: str) -> tuple[int, str]:
    opened_at, _, id_ = cursor.partition(":")
    if not opened_at.lstrip("-").isdigit() or not id_:
        raise ValueError(f"'{cursor}' is no page's next")
    return int(opened_at), id_
