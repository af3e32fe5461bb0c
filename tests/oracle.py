"""A slow, simple reference implementation: the findings of a stream, computed directly from the definition.

It shares no code with the engine. For every group it lists the matching events, counts every pane from scratch, and
joins the panes where the condition holds into runs. Its cost is quadratic.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

Occurrence = tuple[int, list[str]]
"""A matching event: its time and its values."""


@dataclass(frozen=True)
class OracleRule:
    """A correlation in the oracle's terms. Spans are in seconds."""

    group_by: Sequence[str]
    timespan: int
    condition: Callable[[float], bool]
    need: float | None
    """Smallest level that holds, for conditions that more events cannot end; otherwise ``None``."""
    distinct: str | None = None
    resolution: int = 1
    keep_open: int | None = None
    where: Callable[[Mapping[str, Any]], bool] = field(default=lambda event: True)
    measure: Callable[[Sequence[Occurrence]], float | None] | None = None
    """Measure of a window's events, ordered by time, instead of their number, or ``None``."""


@dataclass(frozen=True, order=True)
class OracleFinding:
    """Times in microseconds since the epoch."""

    group: tuple[str, ...]
    opening_pane: int
    opened_at: int
    closed_at: int
    peak: float
    count: int


def texts(value: Any) -> list[str]:
    """Returns the values of a field: none, one, or those of a list; numbers as written."""
    if value is None:
        return []
    if isinstance(value, list):
        return [text for item in value for text in texts(item)]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    return [str(value)]


def findings(events: Iterable[Mapping[str, Any]], rule: OracleRule) -> list[OracleFinding]:
    """Returns all findings of ``rule`` over ``events``, whose ``time`` is in microseconds since the epoch."""
    groups: dict[tuple[str, ...], list[Occurrence]] = defaultdict(list)
    for event in events:
        if rule.where(event):
            values = texts(event.get(rule.distinct)) if rule.distinct else []
            for group in set(product(*(texts(event.get(name)) for name in rule.group_by))):
                groups[group].append((event["time"], values))
    found = [one for group, matching in groups.items() for one in _of_group(group, sorted(matching), rule)]
    return sorted(found)


def _of_group(group: tuple[str, ...], events: list[Occurrence], rule: OracleRule) -> list[OracleFinding]:
    width = rule.resolution * 1_000_000
    span = rule.timespan // rule.resolution
    keep = (rule.timespan if rule.keep_open is None else rule.keep_open) // rule.resolution
    by_pane: dict[int, list[Occurrence]] = defaultdict(list)
    for time, values in events:
        by_pane[time // width].append((time, values))

    def level(window: Sequence[Occurrence]) -> float | None:
        if rule.measure is not None:
            return rule.measure(window)
        if rule.distinct is None:
            return len(window) or None
        return len({value for _, values in window for value in values}) or None

    panes = sorted(by_pane)

    def between(first: int, last: int) -> list[Occurrence]:
        """Returns the events of panes ``first`` to ``last``."""
        return [event for at in panes[bisect_left(panes, first) : bisect_right(panes, last)] for event in by_pane[at]]

    # The level changes only in panes where events arrive or expire.
    edges = sorted({edge for pane in by_pane for edge in (pane, pane + span)})
    runs: list[tuple[int, int, float]] = []  # first pane, last pane, peak
    for start, end in zip(edges, [*edges[1:], edges[-1] + 1], strict=True):
        size = level(between(start - span + 1, start))
        if size is None or not rule.condition(size):
            continue
        if runs and start - runs[-1][1] - 1 <= keep:
            first, _, peak = runs.pop()
            runs.append((first, end - 1, max(peak, size)))
        else:
            runs.append((start, end - 1, size))

    result = []
    for first, last, peak in runs:
        opened_at = first * width
        if rule.need is not None:
            before = between(first - span + 1, first - 1)
            times = sorted({time for time, _ in by_pane[first]})
            opened_at = next(
                until
                for until in times
                if (level(before + [one for one in by_pane[first] if one[0] <= until]) or 0) >= rule.need
            )
        counted = len(between(first - span + 1, last))
        result.append(OracleFinding(group, first, opened_at, (last + 1) * width, peak, counted))
    return result


def gte(bound: float) -> dict[str, Any]:
    """Returns ``condition`` and ``need`` for ``gte: bound``."""
    return {"condition": lambda n: n >= bound, "need": bound}


def judged(op: str, bound: float) -> dict[str, Any]:
    """Returns ``condition`` and ``need`` for a condition that more events can end."""
    tests: dict[str, Callable[[float], bool]] = {
        "gte": lambda n: n >= bound,
        "gt": lambda n: n > bound,
        "lt": lambda n: n < bound,
        "lte": lambda n: n <= bound,
        "eq": lambda n: n == bound,
        "neq": lambda n: n != bound,
    }
    return {"condition": tests[op], "need": None}


def runs_with_late_events(
    arriving: Sequence[Mapping[str, Any]], rule: OracleRule, lateness: int
) -> list[tuple[tuple[str, ...], int, int, float]]:
    """Returns group, first pane, last pane and peak of each finding over events in order of arrival.

    An event counts in the panes whose window covers it and that are not before the watermark: the largest time that
    arrived before it, minus ``lateness`` seconds. All panes are counted anew, one by one.
    """
    width, span = rule.resolution * 1_000_000, rule.timespan // rule.resolution
    keep = (rule.timespan if rule.keep_open is None else rule.keep_open) // rule.resolution
    panes: dict[tuple[str, ...], dict[int, list[list[str]]]] = defaultdict(lambda: defaultdict(list))
    newest = 0
    for event in arriving:
        passed = (newest - lateness * 1_000_000) // width
        newest = max(newest, event["time"])
        own = event["time"] // width
        if rule.where(event):
            values = texts(event.get(rule.distinct)) if rule.distinct else []
            for group in set(product(*(texts(event.get(name)) for name in rule.group_by))):
                for pane in range(max(own, passed), own + span):
                    panes[group][pane].append(values)
    found = []
    for group, counted in panes.items():
        runs: list[tuple[int, int, float]] = []
        for pane, listed in sorted(counted.items()):
            size = len({value for values in listed for value in values}) if rule.distinct else len(listed)
            if not rule.condition(size):
                continue
            first, peak = pane, float(size)
            if runs and pane - runs[-1][1] - 1 <= keep:
                first, _, before = runs.pop()
                peak = max(before, peak)
            runs.append((first, pane, peak))
        found += [(group, *run) for run in runs]
    return sorted(found)
