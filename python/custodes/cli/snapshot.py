"""``custodes snapshot``: inspects snapshots, from which a restart resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from custodes.cli.output import stdout, write_json
from custodes.findings import rfc3339
from custodes.state.snapshots import Inspection, inspect

app = typer.Typer(help="Inspect snapshots, from which a restart resumes.", no_args_is_help=True)


@app.callback()
def _snapshot() -> None:
    """Inspect snapshots, from which a restart resumes."""


@app.command("inspect")
def inspect_(
    paths: Annotated[list[Path], typer.Argument(help="Snapshot files or folders.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
) -> None:
    """Verify snapshot files and print their contents. Exit 1 if one cannot be read."""
    files = [file for path in paths for file in (sorted(path.glob("*.snapshot")) if path.is_dir() else [path])]
    found = [inspect(file) for file in files]
    if json:
        write_json([_as_dict(one) for one in found])
    else:
        stdout.print(_table(found) if found else "No snapshots.")
    if any(one.damage for one in found):
        raise typer.Exit(1)


def _as_dict(one: Inspection) -> dict[str, object]:
    return {
        "file": str(one.file),
        "bytes": one.size,
        "damage": one.damage,
        "taken_at": None if one.taken_at is None else rfc3339(int(one.taken_at * 1e6)),
        "places": {place.name: place.position for place in one.places},
    }


def _table(found: list[Inspection]) -> Table:
    table = Table("file", "taken at", "bytes", "resumes at", "damage")
    for one in found:
        row = _as_dict(one)
        places = "\n".join(f"{place.name} {place.position:,}" for place in one.places)
        table.add_row(one.file.name, str(row["taken_at"] or ""), f"{one.size:,}", places, one.damage or "none")
    return table
