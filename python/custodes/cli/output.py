"""Output of commands to a terminal or a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import orjson
from rich.console import Console
from rich.text import Text

from custodes.config import Fault

stdout = Console(highlight=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)

LEVEL_STYLES = {
    "critical": "bold red",
    "high": "red",
    "medium": "yellow",
    "low": "cyan",
    "informational": "dim",
}


def print_faults(faults: Iterable[Fault], as_json: bool = False) -> None:
    """Prints faults on standard error, or as one JSON array on standard output."""
    faults = list(faults)
    if as_json:
        write_json([fault.as_dict() for fault in faults])
        return
    for fault in faults:
        stderr.print(Text(str(fault)))


def print_warnings(warnings: Iterable[Fault]) -> None:
    """Prints warnings on standard error."""
    for warning in warnings:
        stderr.print(Text(f"warning: {warning}"))


def write_json(data: object) -> None:
    """Writes one JSON value and a line end to standard output, without terminal formatting."""
    sys.stdout.buffer.write(orjson.dumps(data, option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()


def display_path(path: Path) -> str:
    """Formats a path for the user."""
    return "standard input" if str(path) == "-" else str(path)
