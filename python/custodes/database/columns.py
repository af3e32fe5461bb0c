"""Columns that are encrypted if the installation has keys. The keys are part of an engine's dialect."""

from __future__ import annotations

import hashlib

from sqlalchemy import Dialect, Engine, String, Text, TypeDecorator

from custodes.database.text import shortened, storable
from custodes.encryption.keys import NO_KEYS, Keys

MOST_INDEXED_BYTES = 1_500
"""UTF-8 bytes of a name in an index: encrypted and in base64, it fits into PostgreSQL's limit of 2,704 bytes."""
_KEYS = "custodes_keys"


def use_keys(engine: Engine, keys: Keys) -> None:
    """Sets the keys that encrypt the columns of an engine."""
    setattr(engine.dialect, _KEYS, keys)


def keys_of(dialect: Dialect) -> Keys:
    """Returns the keys of a dialect."""
    keys = getattr(dialect, _KEYS, NO_KEYS)
    return keys if isinstance(keys, Keys) else NO_KEYS


class GroupText(TypeDecorator[str]):
    """A group as canonical JSON. Its identifying values are encrypted and searchable."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else keys_of(dialect).hide_group(storable(value))

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else keys_of(dialect).show_group(value)


class GroupDigest(TypeDecorator[str]):
    """The SHA-256 of a group as :class:`GroupText` stores it, for an index: names can be longer than an entry may be.

    Its parameters are groups, as those of :class:`GroupText`.
    """

    impl = String(64)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return (
            None if value is None else hashlib.sha256(keys_of(dialect).hide_group(storable(value)).encode()).hexdigest()
        )


class HiddenName(TypeDecorator[str]):
    """A name, encrypted and searchable; a name that is too long for an index is shortened before."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else keys_of(dialect).hide("name", shortened(storable(value), MOST_INDEXED_BYTES))

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else keys_of(dialect).show("name", value)


class WrappedText(TypeDecorator[str]):
    """A text that may contain names, encrypted and not searchable."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else keys_of(dialect).wrap(storable(value))

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else keys_of(dialect).unwrap(value)


class WrappedString(WrappedText):
    """The same, for a shorter column."""

    impl = String  # type: ignore[assignment] # it is said to be one class only
    cache_ok = True
