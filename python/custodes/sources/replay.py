"""Replay of event files through an engine, as fast as they can be read."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from custodes._core import Engine
from custodes.config import Fault, FaultsError
from custodes.sources.event_times import EventTimes
from custodes.sources.far_ahead import FarAheadEvents
from custodes.sources.file import FileSource
from custodes.sources.messages import LineChunk
from custodes.sources.replay_coverage import RecordLocation, ReplayCoverage, ReplayedBatch

_FAR_FUTURE_YEARS = 5


def check_readable(paths: Sequence[Path]) -> None:
    """Raises :class:`FaultsError` for files that do not exist."""
    faults = [Fault("no such file", str(path)) for path in paths if str(path) != "-" and not path.is_file()]
    if faults:
        raise FaultsError(faults)


def replay_files(
    engine: Engine,
    paths: Sequence[Path],
    times: EventTimes,
    coverage: ReplayCoverage,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> Generator[tuple[ReplayedBatch, RecordLocation]]:
    """Yields the result of each piece with its origin, and of the end. ``on_bytes`` receives the bytes read."""
    yield from read_files(engine, paths, times, coverage, on_bytes)
    yield ReplayedBatch.of(engine.finish()), {}


def read_files(
    engine: Engine,
    paths: Sequence[Path],
    times: EventTimes,
    coverage: ReplayCoverage,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> Generator[tuple[ReplayedBatch, RecordLocation]]:
    """Yields the same as :func:`replay_files`, without the end: more events can follow."""
    # Times in a file are compared with today only to reject errors like 2099.
    latest = int((time.time() + _FAR_FUTURE_YEARS * 365.25 * 86_400) * 1e6)
    far_ahead = FarAheadEvents(engine, times, len(paths), latest)
    coverage.files = len(paths)
    with closing(FileSource(paths, times, on_bytes)) as source:
        while not source.finished:
            for message in source.poll(0):
                clock, late = far_ahead.clock(message.stream), coverage.late
                for file, batch in far_ahead.take(message):
                    place = source.describe(file)
                    coverage.add(batch, place)
                    yield batch, place
                coverage.add_span(far_ahead.clock(message.stream))
                if isinstance(message, LineChunk):
                    coverage.add_span(times.at_start(message.text) if clock is None else None)
                    place = source.describe(message.stream)
                    coverage.add_late(message, coverage.late - late, clock, times, place)


@dataclass(frozen=True)
class _NumberedRecord:
    """A record in the form that the engine accepts."""

    offset: int
    value: bytes


def numbered(records: Iterable[bytes], first: int = 0) -> list[_NumberedRecord]:
    """Returns values as records with consecutive offsets."""
    return [_NumberedRecord(at, record) for at, record in enumerate(records, first)]
