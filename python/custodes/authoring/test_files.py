"""Test files for rules: their schema, and a compact notation for events.

Field descriptions are the reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from custodes.config.section import Duration


class _FileSection(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputEvents(_FileSection):
    """A group of events."""

    event: dict[str, Any] = Field(
        description="The event, as the mapping reads it. In text, {n} is its index among `times`, from 0, and {time} "
        "its time; without {time} anywhere, the time is stored in the field `time`."
    )
    at: Duration = Field(timedelta(0), description="Time of the first event, from the start of the test.")
    times: int = Field(1, ge=1, le=1_000_000, description="Number of events.")
    every: Duration = Field(timedelta(0), description="Interval between two events.")
    late: Duration = Field(timedelta(0), description="Delay of the arrival after the event's time.")

    def events(self, start: datetime) -> Iterator[tuple[datetime, dict[str, Any]]]:
        """Yields each event with its arrival time."""
        for n in range(self.times):
            time = start + self.at + n * self.every
            text = time.isoformat()
            filled, has_time = _fill(self.event, {"{n}": str(n), "{time}": text})
            yield time + self.late, filled if has_time else {"time": text, **filled}


class ExpectedFinding(_FileSection):
    """An expected finding. Omitted properties may have any value."""

    rule: str = Field(description="Title or id of the rule.")
    group: dict[str, str] = Field(description="Its group-by fields.")
    opened: Duration | None = Field(None, description="Opening time, from the start of the test.")
    peak: int | float | None = Field(None, description="The largest count.")
    count: int | None = Field(None, description="The events counted.")


class RuleTestCase(_FileSection):
    """One test: events, and all expected findings."""

    name: str = Field(description="The property that the test shows, in a sentence.")
    start: AwareDatetime = Field(datetime(2026, 1, 5, 8, tzinfo=UTC), description="Start time of the events.")
    events: list[InputEvents] = Field(min_length=1, description="Events, in any order.")
    rejected: int = Field(0, ge=0, description="Number of events that are rejected.")
    findings: list[ExpectedFinding] = Field(description="All expected findings, of any rule; [] for none.")

    def batches(self) -> Iterator[bytes]:
        """Yields the events in order of arrival, as JSON Lines: each late one in a batch of its own."""
        events = [(*one, send.late > timedelta(0)) for send in self.events for one in send.events(self.start)]
        events.sort(key=lambda one: one[0])
        for is_late, run in groupby(events, key=lambda one: one[2]):
            lines = [orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE) for _, event, _ in run]
            yield from lines if is_late else [b"".join(lines)]

    def since_start(self, micros: int) -> timedelta:
        """Converts a time of the engine to an offset from the start of the test."""
        return timedelta(microseconds=micros) - (self.start - datetime.fromtimestamp(0, UTC))


class RuleTests(_FileSection):
    """A test file."""

    rules: list[Path] = Field(
        min_length=1, description="Rule files and directories, relative to the directory of this file."
    )
    mapping: str = Field("custodes", description="Name of a built-in mapping, or path of a mapping file.")
    tables: dict[str, Annotated[list[dict[str, str]], Field(min_length=1)]] = Field(
        default_factory=dict, description="Look-up tables, row by row, key columns first."
    )
    tests: list[RuleTestCase] = Field(min_length=1, description="The tests.")


def _fill(value: Any, words: dict[str, str]) -> tuple[Any, bool]:
    """Returns the value with placeholders replaced, and whether it contained the time."""
    if isinstance(value, str):
        filled = value
        for word, text in words.items():
            filled = filled.replace(word, text)
        return filled, "{time}" in value
    if isinstance(value, list):
        parts = [_fill(item, words) for item in value]
        return [part for part, _ in parts], any(has_time for _, has_time in parts)
    if isinstance(value, dict):
        filled_in = {key: _fill(item, words) for key, item in value.items()}
        return {key: part for key, (part, _) in filled_in.items()}, any(has for _, has in filled_in.values())
    return value, False
