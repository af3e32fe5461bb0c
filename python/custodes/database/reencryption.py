"""Re-encryption of rows under the current key, after a key was added."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    String,
    Table,
    and_,
    bindparam,
    func,
    not_,
    or_,
    select,
    text,
    type_coerce,
    update,
)

from custodes.database.columns import GroupDigest, GroupText, HiddenName, WrappedText, keys_of
from custodes.encryption.keys import Keys, hidden_by, wrapped_by

_AT_ONCE = 1000


def encrypted_columns(table: Table) -> list[Column[str]]:
    """Returns the encrypted columns of a table."""
    return [column for column in table.columns if isinstance(column.type, GroupText | HiddenName | WrappedText)]


def encrypt_anew(connection: Connection, table: Table) -> int:
    """Encrypts the rows of a table under the current key, and returns the number of rows that changed."""
    keyring = keys_of(connection.dialect)
    current = keyring.current
    columns = encrypted_columns(table)
    digests = {column.name: "group" for column in table.columns if isinstance(column.type, GroupDigest)}
    if current is None or not columns:
        return 0
    keys = list(table.primary_key.columns)
    change = update(table).where(*(key == bindparam(f"of_{key.name}") for key in keys))
    change = change.values({name: bindparam(name) for name in [*(column.name for column in columns), *digests]})
    named = [*(f"of_{key.name}" for key in keys), *(column.name for column in columns)]
    # Rows are read decrypted and as stored; they are written encrypted.
    as_they_stand = [type_coerce(column, String).label(f"raw_{column.name}") for column in columns]
    query = select(*keys, *columns, *as_they_stand).order_by(*keys).limit(_AT_ONCE)
    query = query.where(or_(*(_is_not_by(column, current) for column in columns)))
    changed = 0
    after: Sequence[Any] | None = None
    while True:
        rows = connection.execute(query if after is None else query.where(_is_after(keys, after))).all()
        if not rows:
            return changed
        others = [row for row in rows if _is_by_others(columns, row[len(named) :], keyring, current)]
        if others:
            values = [dict(zip(named, row, strict=False)) for row in others]
            connection.execute(change, [row | {name: row[of] for name, of in digests.items()} for row in values])
        changed += len(others)
        after = rows[-1][: len(keys)]


def _is_by_others(columns: Sequence[Column[str]], raw: Sequence[str | None], keys: Keys, current: str) -> bool:
    """Returns whether a value of a row is not under the current key. A group without identifying values never is."""
    for column, stands in zip(columns, raw, strict=True):
        if stands is None:
            continue
        if isinstance(column.type, GroupText):
            if keys.hide_group(keys.show_group(stands)) != stands:
                return True
        elif not stands.startswith((hidden_by(current), wrapped_by(current))):
            return True
    return False


def wipe(engine: Engine) -> None:
    """Removes the former content of rows from the files of the database."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM"))
        if connection.dialect.name == "sqlite":
            connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))


def rows_by_key(connection: Connection, table: Table, names: Sequence[str]) -> Counter[str]:
    """Returns the number of rows that have a value under each of some keys."""
    columns = [type_coerce(column, String) for column in encrypted_columns(table)]
    if not columns:
        return Counter()
    found = Counter[str]()
    for name in names:
        has = or_(*(column.contains(hidden_by(name), autoescape=True) for column in columns))
        found[name] = connection.execute(select(func.count()).select_from(table).where(has)).scalar_one()
    return found


def _is_not_by(column: Column[str], key: str) -> ColumnElement[bool]:
    """Returns whether a value is in plain text.

    A group without identifying values looks like plain text.
    """
    plain = type_coerce(column, String)
    match column.type:
        case GroupText():
            return and_(plain != "{}", not_(plain.contains(f'"{hidden_by(key)}', autoescape=True)))
        case HiddenName():
            return and_(plain.is_not(None), not_(plain.startswith(hidden_by(key), autoescape=True)))
        case _:
            return and_(plain.is_not(None), not_(plain.startswith(wrapped_by(key), autoescape=True)))


def _is_after(keys: Iterable[Column[Any]], last: Sequence[Any]) -> ColumnElement[bool]:
    first, *rest = keys
    comes_after: ColumnElement[bool] = first > last[0]
    return or_(comes_after, and_(first == last[0], _is_after(rest, last[1:]))) if rest else comes_after
