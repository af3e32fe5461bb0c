"""Replay of event files through an engine, as fast as they can be read."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from custodes._core import Engine, Outcome
from custodes.config import Fault, FaultsError
from custodes.sources import FileSource

_FAR_FUTURE_YEARS = 5
RecordLocation = dict[str, str | int]


def check_readable(paths: Sequence[Path]) -> None:
    """Raises :class:`FaultsError` for files that do not exist."""
    faults = [Fault("no such file", str(path)) for path in paths if str(path) != "-" and not path.is_file()]
    if faults:
        raise FaultsError(faults)


def replay_files(
    engine: Engine, paths: Sequence[Path], on_bytes: Callable[[int], None] = lambda _: None
) -> Generator[tuple[Outcome, RecordLocation]]:
    """Yields the outcome of each batch with its origin, and of the end. ``on_bytes`` receives the bytes read."""
    yield from read_files(engine, paths, on_bytes)
    yield engine.finish(), {}


def read_files(
    engine: Engine, paths: Sequence[Path], on_bytes: Callable[[int], None] = lambda _: None
) -> Generator[tuple[Outcome, RecordLocation]]:
    """Yields the same as :meth:`run`, without the end: more events can follow."""
    # Times in a file are compared with today only to reject errors like 2099.
    latest = int((time.time() + _FAR_FUTURE_YEARS * 365.25 * 86_400) * 1e6)
    with closing(FileSource(paths, on_bytes)) as source:
        while not source.finished:
            for arrival in source.poll(0):
                outcome = arrival.feed(engine, latest)
                if outcome is not None:
                    yield outcome, source.describe(arrival.stream)


@dataclass(frozen=True)
class _NumberedRecord:
    """A record in the form that the engine accepts."""

    offset: int
    value: bytes


def numbered(records: Iterable[bytes], first: int = 0) -> list[_NumberedRecord]:
    """Returns values as records with consecutive offsets."""
    return [_NumberedRecord(at, record) for at, record in enumerate(records, first)]
