"""The plan: rules, mapping and event-time settings as JSON for the engine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Any

from custodes.config.mapping import Mapping as FieldMapping
from custodes.rules.model import Rule

_MILLISECOND = timedelta(milliseconds=1)


def build_plan(
    rules: Sequence[Rule],
    mapping: FieldMapping,
    *,
    allowed_lateness: timedelta = timedelta(seconds=10),
    max_future_skew: timedelta = timedelta(minutes=10),
    earliest: date = date(2000, 1, 1),
    max_record_bytes: int = 16 << 20,
    most_open: int | None = None,
    history: bool = False,
    handed_on: Sequence[Rule] = (),
    shares: int | None = None,
    among_workers: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """Returns the plan. The index of a rule in it is the ``rule`` of the engine's results.

    The events of the rules in ``handed_on`` are repartitioned by group into ``shares``; ``None`` repartitions nothing.
    ``most_open`` is the approximate limit of open findings per rule, above which only groups far above the threshold
    open further ones; ``None`` sets no limit. ``history`` records every event. ``among_workers`` contains the plan's
    keys for a part of the counting (:class:`~custodes.rules.Ruleset`).
    """
    fields = mapping.as_plan()
    for rule in (*rules, *handed_on):
        fields["derived"] |= rule.derived
        if rule.together:
            fields["derived"][rule.distinct] = {"from": rule.together, "by": "together"}
    midnight = datetime.combine(earliest, datetime.min.time(), UTC)
    return json.dumps(
        {
            **fields,
            "rules": [{**rule.as_plan(), "most_open": most_open} for rule in rules],
            "allowed_lateness_ms": allowed_lateness // _MILLISECOND,
            "max_future_skew_ms": max_future_skew // _MILLISECOND,
            "earliest_s": int(midnight.timestamp()),
            "max_record_bytes": max_record_bytes,
            "history": history,
            "repartition": {"rules": [rule.as_plan() for rule in handed_on], "partitions": shares} if shares else None,
            **among_workers,
        }
    )
