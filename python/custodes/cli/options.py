"""Options that several commands have, each said once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from custodes.config import Fault, FaultsError, parse_duration
from custodes.config.threads import MOST_THREADS

RulePaths = Annotated[
    list[Path] | None,
    typer.Option(
        help="Sigma rule file or directory; may be given again. Default: the shipped pack.", show_default=False
    ),
]
MappingName = Annotated[str, typer.Option(help="Built-in mapping or mapping file.")]
Lateness = Annotated[str, typer.Option(help="How far out of order events count exactly.")]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1, max=MOST_THREADS, help="Threads that count. Default: the cores, at most 4.", show_default=False
    ),
]


def lateness(text: str) -> timedelta:
    """What `--allowed-lateness` says. Raises :class:`FaultsError`."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise FaultsError([Fault(f"--allowed-lateness: {error}")]) from error
