"""Mappings: the place of each canonical field in a source's records, and derived fields.

A field comes from a path, from the first of several paths that exists, or is a constant (``=text``). A *derived* field
is a YAML mapping with ``from``, the field or fields it depends on, and one of the keys of :class:`Derivation`. The keys
``normalise`` and ``actions`` define which spellings are one identity and which words are one action.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from custodes._core import Engine, PlanError
from custodes.config.faults import Fault, FaultsError
from custodes.config.normal_forms import (
    ACTIONS_FILE,
    DEFAULT_FORMS,
    Action,
    IdentityForm,
    NormalForms,
    built_in_actions,
    read_actions,
    read_forms,
)
from custodes.config.yamldoc import Document, load_documents

CANONICAL = (
    "time", "actor", "subject", "resource", "action", "peer_group", "purpose", "client_ip", "app", "rows",
)  # fmt: skip
_ALL_MAPPINGS = "derived"
"""File of the derived fields that all mappings have."""
_NORMALISE, _ACTIONS = "normalise", "actions"
"""Keys of a mapping file that are no fields."""


_METHODS = ("slice", "capture", "split", "buckets", "part", "spelling", "table")


class TimePart(StrEnum):
    """A part of a time, in the configured time zone."""

    minute = "minute"
    hour = "hour"
    day = "day"
    weekday = "weekday"
    week = "week"
    month = "month"
    year = "year"
    date = "date"


class Derivation(BaseModel):
    """Derivation of a field from others of the same event; a list is processed element by element."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    from_: str | list[str] = Field(alias="from", description="The field; for a table, one field per key column.")
    slice: tuple[int] | tuple[int, int] | None = Field(
        None, description="`[first, end]`: the characters in this range; negative positions count from the end."
    )
    capture: str | None = Field(None, description="The first group of a regular expression, or its whole match.")
    split: str | None = Field(
        None,
        min_length=1,
        description="The parts of a text between any of these characters, as a list: `,;` splits `1, 2;3`.",
    )
    buckets: list[float] | None = Field(
        None,
        min_length=1,
        description="The interval between these bounds that contains a number: `<10`, `10..100`, `>=100`.",
    )
    part: TimePart | None = Field(
        None,
        description="A part of a time in `event_time.zone`: minute, hour, day, weekday (1 is Monday), week, month, "
        "year, date.",
    )
    spelling: Literal["written", "confusable"] | None = Field(
        None,
        description="`written`: the values of an identity field as written. `confusable`: `true` if a text in other "
        "letters looks like one in Latin letters.",
    )
    table: str | None = Field(None, description="The `value` column of this look-up table.")
    value: str | None = Field(None, description="The column; without it, `true` if the key is in the table.")

    @model_validator(mode="after")
    def _one_way(self) -> Derivation:
        ways = [name for name in _METHODS if getattr(self, name) is not None]
        if len(ways) != 1:
            raise ValueError(f"must have exactly one of {', '.join(_METHODS)}")
        if self.value is not None and self.table is None:
            raise ValueError("'value' is a column of a table")
        return self

    @property
    def fields(self) -> list[str]:
        """Fields it depends on."""
        return [self.from_] if isinstance(self.from_, str) else list(self.from_)

    def as_plan(self) -> dict[str, Any]:
        """Returns the derivation as a part of the engine's plan."""
        by: dict[str, Any] | str
        if self.spelling is not None:
            by = self.spelling
        elif self.slice is not None:
            first, *end = self.slice
            by = {"slice": [first, end[0] if end else None]}
        elif self.table is not None:
            by = {"table": {"name": self.table, "value": self.value}}
        else:
            by = {
                name: value
                for name in ("capture", "split", "buckets", "part")
                if (value := getattr(self, name)) is not None
            }
        return {"from": self.fields, "by": by}


@dataclass(frozen=True)
class TableUse:
    """Use of a look-up table by a derived field."""

    table: str
    forms: tuple[str | None, ...]
    """For each key column, from the first, the normal form of an identity as JSON; ``None`` for other fields."""
    value: str | None


@dataclass(frozen=True)
class Mapping:
    """Sources of all fields."""

    sources: dict[str, list[str]]
    """Canonical field to its sources in order of preference: a dotted path, or ``=text`` for a constant."""
    derived: dict[str, Derivation] = field(default_factory=dict)
    time_zone: str = "UTC"
    forms: dict[str, IdentityForm] = field(default_factory=lambda: dict(DEFAULT_FORMS))
    """Normal form of each identity field."""
    actions: dict[str, Action] = field(default_factory=lambda: dict(built_in_actions()))
    """Words of the log and the actions they mean."""

    def as_plan(self) -> dict[str, Any]:
        """Returns the parts of the engine's plan that define fields."""
        return {
            "mapping": self.sources,
            "derived": {name: derivation.as_plan() for name, derivation in self.derived.items()},
            "identities": {name: form.model_dump() for name, form in self.forms.items()},
            "actions": self.actions,
            "time_zone": self.time_zone,
        }

    @property
    def normal_forms(self) -> NormalForms:
        """The normal forms of all fields."""
        return NormalForms(self.forms, self.actions)

    def table_uses(self) -> Iterator[TableUse]:
        """Returns the uses of look-up tables, each once."""
        yield from dict.fromkeys(
            TableUse(one.table, tuple(self._form(name) for name in one.fields), one.value)
            for one in self.derived.values()
            if one.table
        )

    def _form(self, name: str) -> str | None:
        form = self.forms.get(name)
        return None if form is None else form.model_dump_json()


def built_in_mappings() -> list[str]:
    """Names that :func:`load_mapping` knows."""
    names = sorted(entry.name for entry in files("custodes.mappings").iterdir())
    names = [name.removesuffix(".yml") for name in names if name.endswith(".yml")]
    return [name for name in names if name not in (_ALL_MAPPINGS, ACTIONS_FILE)]


def load_mapping(name: str, time_zone: str = "UTC") -> Mapping:
    """Reads a built-in mapping by name or a mapping file by path.

    It includes the common derived fields, which it may redefine. Raises :class:`FaultsError` for an unknown name and
    for an invalid file.
    """
    if name in built_in_mappings():
        parts = _built_in(name)
    elif name.endswith((".yml", ".yaml")):
        parts = _read(Path(name))
        _try_out(Path(name), parts)
    else:
        known = ", ".join(built_in_mappings())
        raise FaultsError([Fault(f"unknown mapping '{name}'", hint=f"built in: {known}; or the path of a .yml file")])
    in_all = _built_in(_ALL_MAPPINGS).derived
    derived = {**{key: in_all[key] for key in in_all if key not in parts.sources}, **parts.derived}
    return replace(parts, derived=derived, time_zone=time_zone)


@cache
def _built_in(name: str) -> Mapping:
    with as_file(files("custodes.mappings") / f"{name}.yml") as path:
        return _read(path, needs_all=name != _ALL_MAPPINGS)


def _read(path: Path, needs_all: bool = True) -> Mapping:
    documents = load_documents(path)
    if len(documents) != 1 or not isinstance(documents[0].data, dict):
        raise FaultsError([Fault("must be one flat YAML mapping", str(path), 1, "like `actor: user.name`")])
    document = documents[0]
    faults: list[Fault] = []
    sources: dict[str, list[str]] = {}
    derived: dict[str, Derivation] = {}
    for key, said in document.data.items():
        if key in (_NORMALISE, _ACTIONS):
            continue
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
    forms = read_forms(document, _NORMALISE, faults)
    actions = read_actions(document, _ACTIONS, faults)
    if "count" in sources:
        # The name of `rows` until 0.2.
        sources.setdefault("rows", sources["count"])
    if faults:
        raise FaultsError(faults)
    return Mapping(sources, derived, forms=forms, actions=actions)


def _try_out(path: Path, mapping: Mapping) -> None:
    """Validates with the engine, which parses paths and compiles regular expressions. Raises :class:`FaultsError`."""
    faults, plan = [], mapping.as_plan()
    for name in (*mapping.sources, *mapping.derived):
        groups = {"id": name, "when": {"all": []}, "group_by": [name], "holds": {"gte": 1}}
        spans = {"timespan_ms": 1000, "resolution_ms": 1000, "keep_open_ms": 0}
        try:
            Engine(json.dumps({**plan, "rules": [{**groups, **spans}]}))
        except PlanError as error:
            if error.kind in ("derived", "path") and error.field == name:
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
            f"'{key}' must be a path, a list of paths, \"=text\", or a derivation like {{from: subject, slice: [0, 6]}}"
        )
        faults.append(document.fault(problem, key))
        return []
    return listed
