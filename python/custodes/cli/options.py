"""Options that several commands share."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from custodes._core import Tables, is_time_zone
from custodes.config import Fault, FaultsError, parse_duration
from custodes.config.mapping import Mapping, load_mapping
from custodes.config.threads import MOST_THREADS
from custodes.sources.lookup_tables import LookupTables, csv_files

RulePaths = Annotated[
    list[Path] | None,
    typer.Option(help="Sigma rule file or directory; repeatable. Default: the shipped pack.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]
MappingName = Annotated[str, typer.Option(help="Built-in mapping or mapping file.")]
Lateness = Annotated[str, typer.Option(help="Largest delay of out-of-order events that are still counted exactly.")]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=MOST_THREADS,
        help="Number of counting threads. Default: the number of cores, at most 4.",
        show_default=False,
    ),
]


TableFiles = Annotated[
    list[str] | None,
    typer.Option("--table", metavar="NAME=FILE", help="Look-up table, a CSV file; repeatable.", show_default=False),
]
TimeZoneName = Annotated[str, typer.Option(help="Time zone of hours and days in rules, for example Asia/Shanghai.")]


def mapping_and_tables(mapping: str, zone: str, tables: list[str] | None) -> tuple[Mapping, Tables]:
    """Loads the mapping and tables of `--mapping`, `--zone` and `--table`. Raises :class:`FaultsError`."""
    if not is_time_zone(zone):
        raise FaultsError(
            [Fault(f"--zone: '{zone}' is not a known time zone", hint="use an IANA name such as Europe/Berlin or UTC")]
        )
    files: dict[str, Path] = {}
    for option in tables or []:
        name, is_given, file = option.partition("=")
        if not is_given:
            raise FaultsError([Fault(f"--table: '{option}' is not NAME=FILE")])
        files[name] = Path(file)
    fields, look_ups = load_mapping(mapping, zone), LookupTables()
    look_ups.load(csv_files(files), fields.table_uses())
    return fields, look_ups.in_force


def lateness(text: str) -> timedelta:
    """Parses `--allowed-lateness`. Raises :class:`FaultsError`."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise FaultsError([Fault(f"--allowed-lateness: {error}")]) from error
