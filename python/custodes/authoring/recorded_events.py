"""Recorded events to be counted again: files, or records in memory."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from custodes._core import Engine, Outcome
from custodes.sources.replay import numbered, replay_files

_AT_ONCE = 20_000


def _nobody(_: int) -> None:
    """Progress callback that does nothing."""


class RecordedEvents(Protocol):
    """Recorded events."""

    def outcomes(self, engine: Engine, on_bytes: Callable[[int], None] = _nobody) -> Generator[Outcome]:
        """Yields the outcome of each batch, and of the end. ``on_bytes`` is called with the number of bytes read."""

    def parts(self) -> Sequence[RecordedEvents]:
        """Batches, each of which begins with its earliest events."""


@dataclass(frozen=True)
class EventFiles:
    """Events in files."""

    paths: Sequence[Path]

    def outcomes(self, engine: Engine, on_bytes: Callable[[int], None] = _nobody) -> Generator[Outcome]:
        with closing(replay_files(engine, self.paths, on_bytes)) as read:
            for outcome, _ in read:
                yield outcome

    def parts(self) -> Sequence[RecordedEvents]:
        return [EventFiles([path]) for path in self.paths]


@dataclass(frozen=True)
class EventRecords:
    """Records in memory, earliest first."""

    records: Sequence[bytes]

    def outcomes(self, engine: Engine, on_bytes: Callable[[int], None] = _nobody) -> Generator[Outcome]:
        for start in range(0, len(self.records), _AT_ONCE):
            batch = self.records[start : start + _AT_ONCE]
            yield engine.process_records(numbered(batch, start))
            on_bytes(sum(map(len, batch)))
        yield engine.finish()

    def parts(self) -> Sequence[RecordedEvents]:
        return [self]
