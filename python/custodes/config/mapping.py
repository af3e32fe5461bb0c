"""Mappings: where the canonical fields stand in a source's records, and what is worked out from them.

A field comes from a path, from the first of several, or is the same text for all (``=text``). A *derived* field is a
YAML mapping with ``from``, the field or fields it is worked out from, and one of the keys of :class:`Derivation`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from custodes._core import Engine, PlanError
from custodes.config.faults import Fault, FaultsError
from custodes.config.yamldoc import Document, load_documents

CANONICAL = (
    "time", "actor", "subject", "resource", "action", "peer_group", "purpose", "client_ip", "app", "count",
)  # fmt: skip
_ALL_MAPPINGS = "derived"
"""The file of derived fields that all mappings have."""


class TimePart(StrEnum):
    """A part of a time, in the configuration's time zone."""

    minute = "minute"
    hour = "hour"
    day = "day"
    weekday = "weekday"
    week = "week"
    month = "month"
    year = "year"
    date = "date"


class Derivation(BaseModel):
    """How a field is worked out from others of the same event; a list is, element by element."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    from_: str | list[str] = Field(alias="from", description="The field, or for a table as many as its key has.")
    slice: tuple[int] | tuple[int, int] | None = Field(
        None, description="`[first, end]`: these characters; negative places count from the end."
    )
    capture: str | None = Field(None, description="What a regular expression's first group finds, or all it finds.")
    buckets: list[float] | None = Field(
        None, min_length=1, description="Which interval between these bounds a number is in: `<10`, `10..100`, `>=100`."
    )
    part: TimePart | None = Field(
        None,
        description="A part of a time in `event_time.zone`: minute, hour, day, weekday (1 is Monday), week, month, "
        "year, date.",
    )
    table: str | None = Field(None, description="What this look-up table has in its `value` column.")
    value: str | None = Field(None, description="The column; without it, `true` where the key is in the table.")

    @model_validator(mode="after")
    def _one_way(self) -> Derivation:
        ways = [name for name in ("slice", "capture", "buckets", "part", "table") if getattr(self, name) is not None]
        if len(ways) != 1:
            raise ValueError("must have exactly one of slice, capture, buckets, part, table")
        if self.value is not None and self.table is None:
            raise ValueError("'value' is a column of a table")
        return self

    @property
    def fields(self) -> list[str]:
        """The fields it is worked out from."""
        return [self.from_] if isinstance(self.from_, str) else list(self.from_)

    def as_plan(self) -> dict[str, Any]:
        """The derivation as a part of the engine's plan."""
        by: dict[str, Any]
        if self.slice is not None:
            first, *end = self.slice
            by = {"slice": [first, end[0] if end else None]}
        elif self.table is not None:
            by = {"table": {"name": self.table, "value": self.value}}
        else:
            by = {name: value for name in ("capture", "buckets", "part") if (value := getattr(self, name)) is not None}
        return {"from": self.fields, "by": by}


@dataclass(frozen=True)
class TableUse:
    """What some derived field asks of a look-up table."""

    table: str
    keys: int
    """How many columns, from the first, make the key."""
    value: str | None


@dataclass(frozen=True)
class Mapping:
    """Where fields come from."""

    sources: dict[str, list[str]]
    """Canonical field → sources in order of preference: a dotted path, or ``=text`` for a constant."""
    derived: dict[str, Derivation] = field(default_factory=dict)
    time_zone: str = "UTC"

    def as_plan(self) -> dict[str, Any]:
        """The parts of the engine's plan that say what fields are."""
        return {
            "mapping": self.sources,
            "derived": {name: derivation.as_plan() for name, derivation in self.derived.items()},
            "time_zone": self.time_zone,
        }

    def table_uses(self) -> Iterator[TableUse]:
        """What is asked of tables, each once."""
        yield from {TableUse(one.table, len(one.fields), one.value): None for one in self.derived.values() if one.table}


def built_in_mappings() -> list[str]:
    """Names that :func:`load_mapping` knows."""
    names = sorted(entry.name for entry in files("custodes.mappings").iterdir())
    names = [name.removesuffix(".yml") for name in names if name.endswith(".yml")]
    return [name for name in names if name != _ALL_MAPPINGS]


def load_mapping(name: str, time_zone: str = "UTC") -> Mapping:
    """Reads a built-in mapping by name or a mapping file by path.

    It has the derived fields all mappings have, unless it says otherwise of one of those names. Raises
    :class:`FaultsError` for an unknown name or a file that is no mapping.
    """
    if name in built_in_mappings():
        sources, derived = _built_in(name)
    elif name.endswith((".yml", ".yaml")):
        sources, derived = _read(Path(name))
        _try_out(Path(name), sources, derived)
    else:
        known = ", ".join(built_in_mappings())
        raise FaultsError([Fault(f"unknown mapping '{name}'", hint=f"built in: {known}; or a .yml file's path")])
    _, in_all = _built_in(_ALL_MAPPINGS)
    return Mapping(sources, {**{key: in_all[key] for key in in_all if key not in sources}, **derived}, time_zone)


_Parts = tuple[dict[str, list[str]], dict[str, Derivation]]


@cache
def _built_in(name: str) -> _Parts:
    with as_file(files("custodes.mappings") / f"{name}.yml") as path:
        return _read(path, needs_all=name != _ALL_MAPPINGS)


def _read(path: Path, needs_all: bool = True) -> _Parts:
    documents = load_documents(path)
    if len(documents) != 1 or not isinstance(documents[0].data, dict):
        raise FaultsError([Fault("wants one flat YAML mapping", str(path), 1, "like `actor: user.name`")])
    document = documents[0]
    faults: list[Fault] = []
    sources: dict[str, list[str]] = {}
    derived: dict[str, Derivation] = {}
    for key, said in document.data.items():
        if isinstance(said, dict):
            try:
                derived[str(key)] = Derivation.model_validate(said)
            except ValidationError as error:
                faults.extend(_derivation_faults(document, str(key), error))
        else:
            sources[str(key)] = _sources(document, str(key), said, faults)
    faults.extend(
        document.fault(f"no source for '{key}'", hint="every event needs a time and an actor")
        for key in ("time", "actor")
        if needs_all and key not in sources and key not in derived
    )
    if faults:
        raise FaultsError(faults)
    return sources, derived


def _try_out(path: Path, sources: dict[str, list[str]], derived: dict[str, Derivation]) -> None:
    """Asks the engine, which alone knows its regular expressions. Raises :class:`FaultsError`."""
    faults, plan = [], Mapping(sources, derived).as_plan()
    for name in derived:
        groups = {"id": name, "when": {"all": []}, "group_by": [name], "holds": {"gte": 1}}
        spans = {"timespan_ms": 1000, "resolution_ms": 1000, "keep_open_ms": 0}
        try:
            Engine(json.dumps({**plan, "rules": [{**groups, **spans}]}))
        except PlanError as error:
            if error.kind == "derived" and error.field == name:
                faults.append(load_documents(path)[0].fault(f"'{name}' {error.problem}", name))
    if faults:
        raise FaultsError(faults)


def _derivation_faults(document: Document, key: str, error: ValidationError) -> Iterator[Fault]:
    told: set[Any] = set()
    for detail in error.errors():
        place = detail["loc"][:1]
        if place not in told:
            told.add(place)
            what = f"{key}.{place[0]}" if place else key
            yield document.fault(f"{what}: {detail['msg'].removeprefix('Value error, ')}", key, *place)


def _sources(document: Document, key: str, said: Any, faults: list[Fault]) -> list[str]:
    listed = said if isinstance(said, list) else [said]
    if not listed or not all(isinstance(item, str) and item for item in listed):
        problem = (
            f"'{key}' wants a path, a list of paths, \"=text\", or a derivation like {{from: subject, slice: [0, 6]}}"
        )
        faults.append(document.fault(problem, key))
        return []
    return listed
