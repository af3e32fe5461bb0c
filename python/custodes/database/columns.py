"""Columns that are encrypted where the installation has keys. Each engine's dialect has them."""

from __future__ import annotations

from sqlalchemy import Dialect, Engine, String, Text, TypeDecorator

from custodes.encryption.keys import NO_KEYS, Keys

_KEYS = "custodes_keys"


def use_keys(engine: Engine, keys: Keys) -> None:
    """Has an engine's columns encrypted by these."""
    setattr(engine.dialect, _KEYS, keys)


def keys_of(dialect: Dialect) -> Keys:
    """What columns of this dialect are encrypted by."""
    keys = getattr(dialect, _KEYS, NO_KEYS)
    return keys if isinstance(keys, Keys) else NO_KEYS


class GroupText(TypeDecorator[str]):
    """A group as JSON, in the one way it is written. Who is in it is hidden, and can be looked for."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else keys_of(dialect).hide_group(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else keys_of(dialect).show_group(value)


class HiddenName(TypeDecorator[str]):
    """Somebody's name; it can be looked for."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else keys_of(dialect).hide("name", value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else keys_of(dialect).show("name", value)


class WrappedText(TypeDecorator[str]):
    """A text that may name people, and that nobody looks for."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else keys_of(dialect).wrap(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else keys_of(dialect).unwrap(value)


class WrappedString(WrappedText):
    """The same, of a column that holds less."""

    impl = String  # type: ignore[assignment] # it is said to be one class only
    cache_ok = True
