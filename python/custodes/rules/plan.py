"""The plan: rules, mapping and event-time settings as the JSON the engine is started with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from custodes.config import EventTime
from custodes.rules.model import Rule


def build_plan(
    rules: Sequence[Rule],
    mapping: Mapping[str, Sequence[str]],
    event_time: EventTime | None = None,
    max_record_bytes: int = 1 << 20,
) -> str:
    """Writes the plan; a rule's position in it is the ``rule`` of what the engine reports."""
    settings = event_time or EventTime()
    millisecond = timedelta(milliseconds=1)
    earliest = datetime.combine(settings.earliest, datetime.min.time(), UTC)
    return json.dumps(
        {
            "mapping": {field: list(sources) for field, sources in mapping.items()},
            "rules": [rule.as_plan() for rule in rules],
            "allowed_lateness_ms": settings.allowed_lateness // millisecond,
            "max_future_skew_ms": settings.max_future_skew // millisecond,
            "earliest_s": int(earliest.timestamp()),
            "max_record_bytes": max_record_bytes,
        }
    )
