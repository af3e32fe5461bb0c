"""A rule's spans: the window's length, its panes, and how far apart two runs of one finding may lie."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from custodes.config import Fault, parse_duration
from custodes.rules.parse import ParsedRule

SPANS = ("keep_open", "resolution")
"""The spans under a rule's ``custodes`` key."""
_LONGEST_SECONDS = 10 * 366 * 86_400
_PANES = 600
"""Panes of a window unless ``resolution`` says otherwise."""


@dataclass(frozen=True)
class Timing:
    """``resolution`` divides ``timespan``."""

    timespan: timedelta
    resolution: timedelta
    keep_open: timedelta


def read_timing(one: ParsedRule, timespan: timedelta, faults: list[Fault]) -> Timing | None:
    """The spans of a rule with a window of ``timespan``; what is wrong with its own goes to ``faults``."""
    document = one.document
    if timespan.total_seconds() > _LONGEST_SECONDS:
        faults.append(document.fault("timespan is longer than ten years", "correlation", "timespan"))
        return None
    before = len(faults)
    own = document.data.get("custodes") or {}
    spans: dict[str, timedelta] = {}
    for key in SPANS:
        if key in own:
            try:
                spans[key] = parse_duration(own[key])
            except ValueError as error:
                faults.append(document.fault(f"custodes.{key}: {error}", "custodes", key))
    resolution = spans.get("resolution", default_resolution(timespan))
    if "resolution" in spans and (resolution < timedelta(seconds=1) or timespan % resolution):
        faults.append(
            document.fault("resolution wants at least 1s and must divide the timespan", "custodes", "resolution")
        )
    if len(faults) > before:
        return None
    return Timing(timespan, resolution, spans.get("keep_open", timespan))


def default_resolution(timespan: timedelta) -> timedelta:
    """The finest pane of at least a second that makes at most 600 of ``timespan`` and divides it."""
    total = timespan // timedelta(milliseconds=1)
    panes = next(n for n in range(min(_PANES, total // 1000), 0, -1) if total % n == 0)
    return timedelta(milliseconds=total // panes)
