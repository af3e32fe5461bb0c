"""What a replay has read: files, events, rejects, late events and the time span."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from custodes._core import FindingChange, Outcome
from custodes.sources.dead_letters import RejectedRecord
from custodes.sources.event_times import EventTimes, last_lines
from custodes.sources.file_faults import FileFault
from custodes.sources.messages import LineChunk

RecordLocation = dict[str, str | int]
_SUGGESTED = tuple(
    timedelta(minutes=minutes)
    for minutes in (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 360, 720, 1440, 2880, 10_080, 43_200, 525_600)
)
_UNITS = (timedelta(days=1), timedelta(hours=1), timedelta(minutes=1))
FAR_AHEAD = timedelta(days=1) // timedelta(microseconds=1)
"""Time between an event and later events of its file from which the first is far ahead, in microseconds."""
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class ReplayedBatch:
    """Result of a piece of a replay."""

    changes: Sequence[FindingChange] = ()
    rejects: Sequence[RejectedRecord] = ()
    events: int = 0
    late: int = 0
    """Number of the events that came too late to count in every window."""
    unmatched: int = 0
    """Number of the events that met no condition of any rule."""
    no_access: int = 0
    """Number of the events that are no access, such as logins."""

    @staticmethod
    def of(outcome: Outcome) -> ReplayedBatch:
        return ReplayedBatch(
            outcome.changes, outcome.rejects, outcome.events, outcome.late, outcome.unmatched, outcome.no_access
        )


@dataclass(frozen=True)
class LateEvent:
    """An event that is behind earlier events of its file."""

    place: RecordLocation
    line: int
    behind: timedelta
    """Difference to the newest event before it."""

    @property
    def sufficient_lateness(self) -> timedelta:
        """Allowed lateness with which the event is not late."""
        return next((lateness for lateness in _SUGGESTED if lateness > self.behind), _rounded_up(self.behind))

    @property
    def about(self) -> timedelta:
        """The difference in whole minutes, hours or days."""
        return _rounded_up(self.behind)


def _rounded_up(duration: timedelta) -> timedelta:
    unit = next((unit for unit in _UNITS if duration >= 2 * unit), timedelta(seconds=1))
    return -(-duration // unit) * unit


@dataclass
class ReplayCoverage:
    """Figures of one replay."""

    files: int = 0
    events: int = 0
    late: int = 0
    unmatched: int = 0
    no_access: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    """Number of dead letters by reason."""
    faults: list[tuple[RecordLocation, FileFault]] = field(default_factory=list)
    """Files that were not read to the end."""
    earliest: int | None = None
    """Time of the first event, in microseconds."""
    latest: int | None = None
    """Time of the last event, without those far ahead of their file."""
    latest_event: LateEvent | None = None
    """The event that is farthest behind, of the piece with the most late events."""
    _most_late: int = 0

    def add(self, batch: ReplayedBatch, place: RecordLocation) -> None:
        """Adds the result of a piece."""
        self.events += batch.events
        self.late += batch.late
        self.unmatched += batch.unmatched
        self.no_access += batch.no_access
        self.rejected.update(reject.reason for reject in batch.rejects)
        self.faults += [(place, reject) for reject in batch.rejects if isinstance(reject, FileFault)]

    def add_span(self, time: int | None) -> None:
        """Adds a time up to which events were counted, or of the first events."""
        if time is not None:
            self.earliest = time if self.earliest is None else min(self.earliest, time)
            self.latest = time if self.latest is None else max(self.latest, time)

    def add_late(
        self, piece: LineChunk, late: int, clock: int | None, times: EventTimes, place: RecordLocation
    ) -> None:
        """Finds the event that is farthest behind in a piece, if it has more late events than the pieces before.

        ``clock`` is the largest event time before the piece.
        """
        if late <= self._most_late:
            return
        self._most_late = late
        behind, found = 0, 0
        ends = times.earliest(last_lines(piece.text))
        # Events far ahead of the file are counted separately and make no others late.
        latest = max((time for time in (clock, ends) if time is not None), default=0) + FAR_AHEAD
        for line, text in enumerate(piece.text.split(b"\n"), piece.first_line):
            time = times.of(text)
            if time is None or time > latest:
                continue
            if clock is not None and clock - time > behind:
                behind, found = clock - time, line
            clock = time if clock is None else max(clock, time)
        self.latest_event = LateEvent(place, found, behind * _MICROSECOND)

    @property
    def late_percent(self) -> float:
        return 100 * self.late / self.events if self.events else 0.0
