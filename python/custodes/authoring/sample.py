"""Fields that rules read and that no event of a sample has: most often, a misspelt field or a wrong mapping."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson

from custodes._core import Engine, Tables
from custodes.authoring.probe import probe
from custodes.authoring.recorded_events import EventFiles, event_times
from custodes.config import Document, Fault
from custodes.config.faults import did_you_mean
from custodes.config.mapping import CANONICAL, Mapping
from custodes.rules import LoadedRules, build_plan
from custodes.rules.compile import CompiledRule
from custodes.rules.fields import own_fields
from custodes.rules.locate import field_place
from custodes.sources import FileSource
from custodes.sources.messages import LineChunk
from custodes.sources.replay_coverage import ReplayCoverage

_ANY_ORDER = timedelta(days=3650)
"""Allowed lateness of a sample: its events may be in any order."""
_MOST_NAMES = 10_000
"""Largest number of different paths that are collected from a sample."""


@dataclass(frozen=True)
class _FieldUse:
    """The first use of a field in a rule file."""

    field: str
    document: Document


def missing_fields(loaded: LoadedRules, mapping: Mapping, sample: Path, tables: Tables | None = None) -> list[Fault]:
    """Returns a warning for each field that a rule reads and that no event of a sample has."""
    uses = list(_uses(loaded.compiled))
    names = [*{use.field: None for use in uses}, *CANONICAL, *mapping.derived]
    present, events = _present(names, mapping, sample, tables)
    if not events:
        return [Fault("no event of the sample can be read", str(sample))]
    known = sorted({*(name for name in names if name in present), *_paths(sample, mapping)})
    return [
        use.document.fault(
            f"no event of the sample has the field '{use.field}'",
            *field_place(use.document, use.field),
            hint=_hint(use.field, mapping, known),
        )
        for use in uses
        if use.field not in present
    ]


def _uses(compiled: Iterable[CompiledRule]) -> Iterator[_FieldUse]:
    """Yields each field with the first document that reads it."""
    seen = set()
    for candidate in compiled:
        for field in own_fields(candidate.rule, is_correlation="correlation" in candidate.document.data):
            if field not in seen:
                seen.add(field)
                yield _FieldUse(field, candidate.document)


def _present(names: Sequence[str], mapping: Mapping, sample: Path, tables: Tables | None) -> tuple[frozenset[str], int]:
    """Returns the fields that some event has, and the number of events."""
    probes = [
        probe(str(index), {"field": {"name": name, "test": {"exists": True}}}) for index, name in enumerate(names)
    ]
    engine = Engine(build_plan(probes, mapping, allowed_lateness=_ANY_ORDER))
    if tables is not None:
        engine.use_tables(tables)
    coverage = ReplayCoverage()
    for _ in EventFiles([sample], event_times(mapping)).replay(engine, coverage):
        pass
    figures = engine.stats().rules
    return frozenset(name for name, rule in zip(names, figures, strict=True) if rule.matched), coverage.events


def _hint(field: str, mapping: Mapping, known: Sequence[str]) -> str | None:
    if field in mapping.derived:
        return f"the mapping derives it from {', '.join(mapping.derived[field].fields)}"
    return did_you_mean(field, known)


def _paths(sample: Path, mapping: Mapping) -> frozenset[str]:
    """Returns the dotted paths in the first records of a sample."""
    paths: set[str] = set()
    with closing(FileSource([sample], event_times(mapping))) as source:
        chunks = [message for message in source.poll(0) if isinstance(message, LineChunk)]
    for line in b"".join(chunk.text for chunk in chunks).splitlines():
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        paths.update(_paths_in(record, ""))
        if len(paths) > _MOST_NAMES:
            break
    return frozenset(paths)


def _paths_in(value: Any, prefix: str) -> Iterator[str]:
    """Yields the paths of all plain values; the elements of a list have its path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _paths_in(inner, f"{prefix}.{key}" if prefix else key)
    elif isinstance(value, list):
        for inner in value:
            yield from _paths_in(inner, prefix)
    elif prefix:
        yield prefix
