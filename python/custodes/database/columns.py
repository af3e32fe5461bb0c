"""Columns that are encrypted if the installation has keys. The keys are part of an engine's dialect."""

from __future__ import annotations

from sqlalchemy import Dialect, Engine, String, Text, TypeDecorator

from custodes.encryption.keys import NO_KEYS, Keys

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
        return None if value is None else keys_of(dialect).hide_group(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else keys_of(dialect).show_group(value)


class HiddenName(TypeDecorator[str]):
    """A name, encrypted and searchable."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else keys_of(dialect).hide("name", value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else keys_of(dialect).show("name", value)


class WrappedText(TypeDecorator[str]):
    """A text that may contain names, encrypted and not searchable."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else keys_of(dialect).wrap(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else keys_of(dialect).unwrap(value)


class WrappedString(WrappedText):
    """The same, for a shorter column."""

    impl = String  # type: ignore[assignment] # it is said to be one class only
    cache_ok = True
