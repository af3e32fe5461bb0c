"""Recorded events to be counted again: files, or records in memory."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from custodes._core import Engine
from custodes.config.mapping import Mapping
from custodes.rules import build_plan
from custodes.sources import EventTimes
from custodes.sources.replay import numbered, replay_files
from custodes.sources.replay_coverage import ReplayCoverage, ReplayedBatch

_AT_ONCE = 20_000


def event_times(mapping: Mapping) -> EventTimes:
    """Returns a reader of the times of events."""
    return EventTimes(Engine(build_plan([], mapping)))


def _nobody(_: int) -> None:
    """Progress callback that does nothing."""


class RecordedEvents(Protocol):
    """Recorded events."""

    def replay(
        self, engine: Engine, coverage: ReplayCoverage, on_bytes: Callable[[int], None] = _nobody
    ) -> Generator[ReplayedBatch]:
        """Yields the result of each batch, and of the end. ``on_bytes`` is called with the number of bytes read."""

    def parts(self) -> Sequence[RecordedEvents]:
        """Batches, each of which begins with its earliest events."""


@dataclass(frozen=True)
class EventFiles:
    """Events in files."""

    paths: Sequence[Path]
    times: EventTimes

    def replay(
        self, engine: Engine, coverage: ReplayCoverage, on_bytes: Callable[[int], None] = _nobody
    ) -> Generator[ReplayedBatch]:
        with closing(replay_files(engine, self.paths, self.times, coverage, on_bytes)) as read:
            for batch, _ in read:
                yield batch

    def parts(self) -> Sequence[RecordedEvents]:
        return [EventFiles([path], self.times) for path in self.paths]


@dataclass(frozen=True)
class EventRecords:
    """Records in memory, earliest first."""

    records: Sequence[bytes]

    def replay(
        self, engine: Engine, coverage: ReplayCoverage, on_bytes: Callable[[int], None] = _nobody
    ) -> Generator[ReplayedBatch]:
        for start in range(0, len(self.records), _AT_ONCE):
            batch = self.records[start : start + _AT_ONCE]
            outcome = engine.process_records(numbered(batch, start))
            counted = ReplayedBatch.of(outcome)
            coverage.add(counted, {})
            coverage.add_span(outcome.clock)
            yield counted
            on_bytes(sum(map(len, batch)))
        yield ReplayedBatch.of(engine.finish())

    def parts(self) -> Sequence[RecordedEvents]:
        return [self]
