"""Test files for rules: their shape, and the events that they say in a few lines.

Field descriptions are the reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from custodes.config.section import Duration


class _FileSection(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputEvents(_FileSection):
    """Events that come."""

    event: dict[str, Any] = Field(
        description="The event, as the mapping reads it. In text, {n} is which of `times` it is, from 0, and {time} "
        "its time; without {time} anywhere, the time is put under `time`."
    )
    at: Duration = Field(timedelta(0), description="When, from the test's start.")
    times: int = Field(1, ge=1, le=1_000_000, description="How many of them come.")
    every: Duration = Field(timedelta(0), description="How long after one the next comes.")

    def events(self, start: datetime) -> Iterator[tuple[datetime, dict[str, Any]]]:
        """Each event with its time."""
        for n in range(self.times):
            time = start + self.at + n * self.every
            text = time.isoformat()
            filled, has_time = _fill(self.event, {"{n}": str(n), "{time}": text})
            yield time, filled if has_time else {"time": text, **filled}


class ExpectedFinding(_FileSection):
    """A finding that there must be. What is not given may be anything."""

    rule: str = Field(description="The rule's title or id.")
    group: dict[str, str] = Field(description="Its group-by fields.")
    opened: Duration | None = Field(None, description="When it opens, from the test's start.")
    peak: int | float | None = Field(None, description="The largest count.")
    count: int | None = Field(None, description="The events counted.")


class RuleTestCase(_FileSection):
    """One test: events that come, and all the findings there must be."""

    name: str = Field(description="What it shows, in a sentence.")
    start: AwareDatetime = Field(datetime(2026, 1, 5, 8, tzinfo=UTC), description="The time its events begin at.")
    events: list[InputEvents] = Field(min_length=1, description="Events, in any order.")
    findings: list[ExpectedFinding] = Field(description="Every finding there must be, of any rule; [] for none.")

    def lines(self) -> bytes:
        """The events in order of their times, as JSON Lines."""
        events = [one for send in self.events for one in send.events(self.start)]
        events.sort(key=lambda one: one[0])
        return b"".join(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE) for _, event in events)

    def since_start(self, micros: int) -> timedelta:
        """A time of the engine's, from the test's start."""
        return timedelta(microseconds=micros) - (self.start - datetime.fromtimestamp(0, UTC))


class RuleTests(_FileSection):
    """A test file."""

    rules: list[Path] = Field(min_length=1, description="Rule files and directories, from this file's own directory.")
    mapping: str = Field("custodes", description="Built-in mapping's name, or a mapping file's path.")
    tables: dict[str, Annotated[list[dict[str, str]], Field(min_length=1)]] = Field(
        default_factory=dict, description="Look-up tables, row by row: the key's columns first."
    )
    tests: list[RuleTestCase] = Field(min_length=1, description="The tests.")


def _fill(value: Any, words: dict[str, str]) -> tuple[Any, bool]:
    """The value with words filled into its text, and whether its time was among them."""
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
