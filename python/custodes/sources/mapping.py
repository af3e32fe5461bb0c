"""Mappings: where the canonical fields stand in a source's records."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from custodes.config import Document, Fault, FaultsError, load_documents

CANONICAL = (
    "time", "actor", "subject", "resource", "action", "peer_group", "purpose", "client_ip", "app", "count",
)  # fmt: skip

Mapping = dict[str, list[str]]
"""Canonical field → sources in order of preference: a dotted path, or ``=text`` for a constant."""


def built_in_mappings() -> list[str]:
    """Names that :func:`load_mapping` knows."""
    names = [entry.name for entry in files("custodes.mappings").iterdir()]
    return sorted(name.removesuffix(".yml") for name in names if name.endswith(".yml"))


def load_mapping(name: str) -> Mapping:
    """Reads a built-in mapping by name or a mapping file by path.

    Raises :class:`FaultsError` for an unknown name or a file that is no mapping.
    """
    if name in built_in_mappings():
        with as_file(files("custodes.mappings") / f"{name}.yml") as path:
            return _read(path)
    if not name.endswith((".yml", ".yaml")):
        known = ", ".join(built_in_mappings())
        raise FaultsError([Fault(f"unknown mapping '{name}'", hint=f"built in: {known}; or a .yml file's path")])
    return _read(Path(name))


def _read(path: Path) -> Mapping:
    documents = load_documents(path)
    if len(documents) != 1 or not isinstance(documents[0].data, dict):
        raise FaultsError([Fault("wants one flat YAML mapping", str(path), 1, "like `actor: user.name`")])
    document = documents[0]
    faults: list[Fault] = []
    mapping: Mapping = {}
    for field, source in document.data.items():
        mapping[str(field)] = _sources(document, str(field), source, faults)
    faults.extend(
        document.fault(f"no source for '{field}'", hint="every event needs a time and an actor")
        for field in ("time", "actor")
        if field not in mapping
    )
    if faults:
        raise FaultsError(faults)
    return mapping


def _sources(document: Document, field: str, source: Any, faults: list[Fault]) -> list[str]:
    listed = source if isinstance(source, list) else [source]
    if not listed or not all(isinstance(item, str) and item for item in listed):
        faults.append(document.fault(f"'{field}' wants a path, a list of paths or \"=text\"", field))
        return []
    return listed
