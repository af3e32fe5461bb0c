"""Metadata of a rule: texts for people, and its id. A fault in them is a warning, because the rule counts all the same.

pySigma reads only the metadata without faults.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import Any
from uuid import UUID

from custodes.config import Document, Fault
from custodes.config.faults import did_you_mean
from custodes.rules.document_value import DocumentValue, is_text

_STATUSES = ("stable", "test", "experimental", "deprecated", "unsupported")
_RELATIONS = ("correlation", "derived", "merged", "obsolete", "renamed", "similar")
_DATE = re.compile(r"([1-3][0-9]{3})(?:-([01][0-9])-([0-3][0-9])|/([01]?[0-9])/([0-3]?[0-9]))", re.ASCII)
_TAG = re.compile(r"[^.\s][^.]*\..+")
_TEXTS = ("taxonomy", "description", "license", "author")
_LISTS = ("references", "tags", "scope", "fields", "falsepositives")


def read_metadata(document: Document) -> tuple[dict[str, Any], list[Fault]]:
    """Returns the document without malformed metadata, and a warning for each malformed value."""
    root = DocumentValue(document, document.data)
    warnings: list[Fault] = []
    cleaned: dict[str, Any] = {}
    for key, child in root.children():
        read = _READERS.get(str(key))
        if read is None or child.value is None:
            cleaned[str(key)] = child.value
            continue
        value, problems = read(child)
        warnings += problems
        if value is not None:
            cleaned[str(key)] = value
    return cleaned, warnings


def id_of(document: Document) -> str | None:
    """Returns the id as the document has it: a UUID in its usual form, or any other text or whole number."""
    value = document.data.get("id")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return normal_reference(value) if is_text(value) else None


def normal_reference(text: str) -> str:
    """Returns a UUID in its usual form, and any other text as it is."""
    try:
        return str(UUID(text))
    except ValueError:
        return text


_Read = tuple[Any, list[Fault]]


def _id(node: DocumentValue) -> _Read:
    try:
        return (str(UUID(node.value)), []) if isinstance(node.value, str) else (None, [node.fault(_NOT_A_UUID)])
    except ValueError:
        return None, [node.fault(_NOT_A_UUID)]


_NOT_A_UUID = "the id should be a UUID"


def _text(node: DocumentValue) -> _Read:
    return (node.value, []) if is_text(node.value) else (None, [node.fault(f"'{node.name}' should be a text")])


def _list(node: DocumentValue) -> _Read:
    if is_text(node.value):
        return [node.value], [node.fault(f"'{node.name}' should be a list")]
    if not isinstance(node.value, list):
        return None, [node.fault(f"'{node.name}' should be a list")]
    problems = [
        child.fault(f"'{child.name}' should be a text") for _, child in node.children() if not is_text(child.value)
    ]
    return [item for item in node.value if is_text(item)], problems


def _tags(node: DocumentValue) -> _Read:
    tags, problems = _list(node)
    kept = []
    for tag in tags or []:
        if _TAG.fullmatch(tag):
            kept.append(tag)
        else:
            place = node.child(node.value.index(tag)) if isinstance(node.value, list) else node
            problems.append(place.fault(f"the tag '{tag}' has no namespace", "a tag is like attack.t1005"))
    return kept, problems


def _date(node: DocumentValue) -> _Read:
    match = _DATE.fullmatch(node.value) if isinstance(node.value, str) else None
    if match:
        year, *parts = (int(part) for part in match.groups() if part)
        try:
            date(year, *parts)
        except ValueError:
            match = None
    return (node.value, []) if match else (None, [node.fault(f"'{node.name}' should be a date, like 2026-01-31")])


def _status(node: DocumentValue) -> _Read:
    value = node.value
    if isinstance(value, str) and value.lower() in _STATUSES:
        return value, []
    hint = did_you_mean(value, _STATUSES) if isinstance(value, str) else f"known: {', '.join(_STATUSES)}"
    return None, [node.fault("unknown status", hint)]


def _related(node: DocumentValue) -> _Read:
    items = node.value if isinstance(node.value, list) else [None]
    if all(_is_relation(item) for item in items):
        return node.value, []
    return None, [node.fault("'related' should be a list of an id and a type", f"types: {', '.join(_RELATIONS)}")]


def _is_relation(item: Any) -> bool:
    if not (isinstance(item, dict) and isinstance(item.get("id"), str) and isinstance(item.get("type"), str)):
        return False
    try:
        UUID(item["id"])
    except ValueError:
        return False
    return item["type"].lower() in _RELATIONS


_READERS: dict[str, Callable[[DocumentValue], _Read]] = {
    "id": _id,
    "status": _status,
    "related": _related,
    "date": _date,
    "modified": _date,
    **dict.fromkeys(_TEXTS, _text),
    **dict.fromkeys(_LISTS, _list),
    "tags": _tags,
}
