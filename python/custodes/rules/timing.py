"""Durations of a rule: the length of the window and its panes, and the largest gap within a finding."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from custodes.config import Fault, parse_duration
from custodes.rules.keys import SPANS
from custodes.rules.parse import ParsedRule

_LONGEST_SECONDS = 10 * 366 * 86_400
_PANES = 600
"""Largest number of panes of a window without ``resolution``."""


@dataclass(frozen=True)
class Timing:
    """``resolution`` divides ``timespan``."""

    timespan: timedelta
    resolution: timedelta
    keep_open: timedelta


def read_timing(parsed: ParsedRule, timespan_seconds: int) -> tuple[Timing | None, list[Fault]]:
    """Reads the durations of a rule with a window of ``timespan_seconds``."""
    document = parsed.document
    if timespan_seconds > _LONGEST_SECONDS:
        return None, [document.fault("timespan is longer than ten years", "correlation", "timespan")]
    timespan = timedelta(seconds=timespan_seconds)
    own = document.data.get("custodes") or {}
    spans: dict[str, timedelta] = {}
    faults = []
    for key in SPANS:
        if key in own:
            try:
                spans[key] = parse_duration(own[key])
            except ValueError as error:
                faults.append(document.fault(f"custodes.{key}: {error}", "custodes", key))
    resolution = spans.get("resolution", default_resolution(timespan))
    if "resolution" in spans and (resolution < timedelta(seconds=1) or timespan % resolution):
        problem = "resolution must be at least 1s and must divide the timespan"
        faults.append(document.fault(problem, "custodes", "resolution"))
    if faults:
        return None, faults
    return Timing(timespan, resolution, spans.get("keep_open", timespan)), []


def default_resolution(timespan: timedelta) -> timedelta:
    """Returns the shortest pane of at least one second that divides ``timespan`` into at most 600 panes."""
    total = timespan // timedelta(milliseconds=1)
    panes = next(n for n in range(min(_PANES, total // 1000), 0, -1) if total % n == 0)
    return timedelta(milliseconds=total // panes)
