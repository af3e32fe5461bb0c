"""Numeric features of an actor's day."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import orjson

DAY = 86_400_000_000
"""Microseconds."""


class Features(NamedTuple):
    """One actor's day."""

    subjects: int
    """Number of distinct values."""
    events: int
    resources: int
    regions: int
    busiest_hour: int
    """Number of events in it."""
    at_night: float
    """Share of the events before 7 or after 20."""
    without_purpose: float
    searches: float
    """Share of the events that are not plain reads."""
    most_of_one: int
    """Number of events about the most frequent subject."""


def features_of(
    work: Sequence[tuple[int, bytes]], more: Sequence[tuple[int, bytes]]
) -> dict[tuple[str, int], Features]:
    """Returns features by actor and day; with ``more``, only for actors with additional events."""
    who = {orjson.loads(line)["actor"] for _, line in more}
    by_actor: dict[tuple[str, int], list[tuple[int, dict[str, str]]]] = defaultdict(list)
    for time, line in (*work, *more):
        event = orjson.loads(line)
        actor = event["actor"]
        if (not more or actor in who) and not actor.startswith("svc-"):
            by_actor[actor, time // DAY].append((time, event))
    return {key: _day(events) for key, events in by_actor.items()}


def _day(events: list[tuple[int, dict[str, str]]]) -> Features:
    hours = Counter(time % DAY // 3_600_000_000 for time, _ in events)
    subjects = Counter(event["subject"] for _, event in events)
    share = 1 / len(events)
    return Features(
        subjects=len(subjects),
        events=len(events),
        resources=len({event["resource"] for _, event in events}),
        regions=len({event["subject"][:6] for _, event in events}),
        busiest_hour=max(hours.values()),
        at_night=share * sum(many for hour, many in hours.items() if hour < 7 or hour >= 20),
        without_purpose=share * sum("purpose" not in event for _, event in events),
        searches=share * sum(event["action"] != "read" for _, event in events),
        most_of_one=max(subjects.values()),
    )
