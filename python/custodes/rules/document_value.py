"""A value of a rule document with its place, and checks of types that all parts of a document share."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

from custodes.config import Document, Fault
from custodes.config.faults import did_you_mean
from custodes.config.yamldoc import YamlKey, YamlPath


@dataclass(frozen=True)
class DocumentValue:
    """A value, its document and its place in it."""

    document: Document
    value: Any
    place: YamlPath = ()

    @property
    def name(self) -> str:
        """The place as people write it, for example ``correlation.rules[0]``."""
        text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in self.place)
        return text.removeprefix(".")

    def fault(self, message: str, hint: str | None = None) -> Fault:
        """Returns a fault at this place."""
        return self.document.fault(message, *self.place, hint=hint)

    def child(self, key: YamlKey) -> DocumentValue:
        """Returns the value of a key or an index that exists."""
        return DocumentValue(self.document, self.value[key], (*self.place, key))

    def children(self) -> Iterator[tuple[YamlKey, DocumentValue]]:
        """Yields the values of a mapping or a list, with their keys or indices."""
        keys = self.value if isinstance(self.value, dict) else range(len(self.value))
        for key in keys:
            yield key, self.child(key)

    def has(self, key: str) -> bool:
        """Returns whether the value is a mapping with this key."""
        return isinstance(self.value, dict) and key in self.value


def is_text(value: object) -> bool:
    """Returns whether a value is a text with more than white space."""
    return isinstance(value, str) and bool(value.strip())


def is_plain(value: object) -> bool:
    """Returns whether a value is a text, a finite number, a boolean or null."""
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and isfinite(value))


def mapping_faults(node: DocumentValue, known: Collection[str] | None = None) -> list[Fault]:
    """Checks that a value is a mapping with at least one key and, if ``known`` is given, with no other keys."""
    if not isinstance(node.value, dict):
        return [node.fault(f"'{node.name}' must be a mapping")]
    if not node.value:
        return [node.fault(f"'{node.name}' is empty")]
    return key_faults(node, known)


def key_faults(node: DocumentValue, known: Collection[str] | None = None) -> list[Fault]:
    """Checks the keys of a mapping: each is a text and, if ``known`` is given, one of these."""
    faults = []
    for key, child in node.children():
        if not isinstance(key, str):
            faults.append(child.fault(f"the key {_shown(key)} is not a text", "write it in quotes"))
        elif known is not None and key not in known:
            faults.append(child.fault(f"unknown key '{child.name}'", did_you_mean(key, known)))
    return faults


def text_faults(node: DocumentValue) -> list[Fault]:
    """Checks that a value is a text with more than white space."""
    return [] if is_text(node.value) else [node.fault(f"'{node.name}' must be a text that is not empty")]


def texts_faults(node: DocumentValue) -> list[Fault]:
    """Checks that a value is a text, or a list of different texts with at least one element."""
    if not isinstance(node.value, list):
        return text_faults(node)
    if not node.value:
        return [node.fault(f"'{node.name}' is empty")]
    faults: list[Fault] = []
    seen = set()
    for _, item in node.children():
        if wrong := text_faults(item):
            faults += wrong
        elif item.value in seen:
            faults.append(item.fault(f"'{item.value}' is in '{node.name}' twice"))
        else:
            seen.add(item.value)
    return faults


def boolean_faults(node: DocumentValue) -> list[Fault]:
    """Checks that a value is a boolean."""
    return [] if isinstance(node.value, bool) else [node.fault(f"'{node.name}' must be true or false")]


def _shown(key: object) -> str:
    """Returns a key as YAML writes it."""
    if isinstance(key, bool):
        return str(key).lower()
    return "null" if key is None else str(key)
