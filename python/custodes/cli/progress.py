"""A progress bar for reading files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from custodes.cli.output import stderr


@contextmanager
def reading(paths: Sequence[Path], what: str = "reading") -> Iterator[Callable[[int], None]]:
    """Shows a progress bar on standard error, if it is a terminal."""
    if not stderr.is_terminal:
        yield lambda _: None
        return
    from rich.progress import (  # noqa: PLC0415 - imported only if it is shown
        BarColumn,
        DownloadColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TransferSpeedColumn,
    )

    plain = [p for p in paths if str(p) != "-" and p.suffix not in {".gz", ".zst"}]
    total: Any = sum(p.stat().st_size for p in plain) if len(plain) == len(paths) else None
    columns = (SpinnerColumn(), TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=stderr, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda size: progress.advance(task, size)
