"""Text that any database can hold, and the shortened form of long names."""

from __future__ import annotations

import hashlib
from typing import Any

_REPLACEMENT = "\ufffd"
_BEGINNING = 3
"""A shortened name keeps this many quarters of its limit."""


def storable(text: str) -> str:
    """Returns a text with U+FFFD for NUL, which PostgreSQL refuses, and for lone surrogates, which are not UTF-8."""
    if text.isascii():
        return text.replace("\0", _REPLACEMENT) if "\0" in text else text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", _REPLACEMENT)


def storable_parameters(parameters: Any) -> Any:
    """Returns the parameters of a statement, or of several, with every text as :func:`storable` returns it."""
    match parameters:
        case str():
            return storable(parameters)
        case dict():
            return {name: storable_parameters(value) for name, value in parameters.items()}
        case tuple():
            return tuple(map(storable_parameters, parameters))
        case list():
            return list(map(storable_parameters, parameters))
        case _:
            return parameters


def shortened(name: str, limit: int) -> str:
    """Returns a name unchanged up to ``limit`` UTF-8 bytes, or else its beginning and its SHA-256.

    Different names stay different, and equal names equal. ``limit`` is at least 400.
    """
    if len(name) <= limit // 4 or len(encoded := name.encode("utf-8", "surrogatepass")) <= limit:
        return name
    beginning = encoded[: limit * _BEGINNING // 4].decode("utf-8", "ignore")
    return f"{beginning}… ({len(name)} characters, SHA-256 {hashlib.sha256(encoded).hexdigest()})"
