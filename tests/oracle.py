"""The slow, obviously right answer: what the findings of a stream are, straight from their definition.

It shares nothing with the engine. For every group it lists the matching events, counts every pane from
scratch, and joins the panes that hold into runs. Quadratic and proud of it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any


@dataclass(frozen=True)
class Rule:
    """A correlation in the oracle's terms. Spans are in seconds."""

    group_by: Sequence[str]
    timespan: int
    condition: Callable[[int], bool]
    need: int | None
    """The least count that holds, for conditions that more events cannot end; else ``None``."""
    distinct: str | None = None
    resolution: int = 1
    keep_open: int | None = None
    where: Callable[[Mapping[str, Any]], bool] = field(default=lambda event: True)


@dataclass(frozen=True, order=True)
class Finding:
    """Times in microseconds since the epoch."""

    group: tuple[str, ...]
    opening_pane: int
    opened_at: int
    closed_at: int
    peak: float
    count: int


def texts(value: Any) -> list[str]:
    """The values a field has: none, one, or a list's; numbers as they are written."""
    if value is None:
        return []
    if isinstance(value, list):
        return [text for item in value for text in texts(item)]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    return [str(value)]


def findings(events: Iterable[Mapping[str, Any]], rule: Rule) -> list[Finding]:
    """All findings of ``rule`` over ``events``, whose ``time`` is microseconds since the epoch."""
    groups: dict[tuple[str, ...], list[tuple[int, list[str]]]] = defaultdict(list)
    for event in events:
        if rule.where(event):
            values = texts(event.get(rule.distinct)) if rule.distinct else []
            for group in set(product(*(texts(event.get(name)) for name in rule.group_by))):
                groups[group].append((event["time"], values))
    found = [one for group, matching in groups.items() for one in _of_group(group, sorted(matching), rule)]
    return sorted(found)


def _of_group(group: tuple[str, ...], events: list[tuple[int, list[str]]], rule: Rule) -> list[Finding]:
    width = rule.resolution * 1_000_000
    span = rule.timespan // rule.resolution
    keep = (rule.timespan if rule.keep_open is None else rule.keep_open) // rule.resolution
    by_pane: dict[int, list[tuple[int, list[str]]]] = defaultdict(list)
    for time, values in events:
        by_pane[time // width].append((time, values))

    def count(window: Iterable[tuple[int, list[str]]]) -> int:
        if rule.distinct is None:
            return len(list(window))
        return len({value for _, values in window for value in values})

    panes = sorted(by_pane)

    def between(first: int, last: int) -> list[tuple[int, list[str]]]:
        """The events of panes ``first`` to ``last``."""
        return [event for at in panes[bisect_left(panes, first) : bisect_right(panes, last)] for event in by_pane[at]]

    # The count changes only where events come or leave; between those panes it stays as it is.
    edges = sorted({edge for pane in by_pane for edge in (pane, pane + span)})
    runs: list[list[int]] = []  # first pane, last pane, peak
    for start, end in zip(edges, [*edges[1:], edges[-1] + 1], strict=True):
        size = count(between(start - span + 1, start))
        if size == 0 or not rule.condition(size):
            continue
        if runs and start - runs[-1][1] - 1 <= keep:
            runs[-1][1] = end - 1
            runs[-1][2] = max(runs[-1][2], size)
        else:
            runs.append([start, end - 1, size])

    result = []
    for first, last, peak in runs:
        opened_at = first * width
        if rule.need is not None:
            before = between(first - span + 1, first - 1)
            inside = sorted(by_pane[first], key=lambda event: event[0])
            opened_at = next(event[0] for n, event in enumerate(inside, 1) if count(before + inside[:n]) >= rule.need)
        counted = len(between(first - span + 1, last))
        result.append(Finding(group, first, opened_at, (last + 1) * width, peak, counted))
    return result


def gte(bound: int) -> dict[str, Any]:
    """``condition`` and ``need`` for ``gte: bound``."""
    return {"condition": lambda n: n >= bound, "need": bound}


def judged(op: str, bound: int) -> dict[str, Any]:
    """``condition`` and ``need`` for a condition that more events can end."""
    tests: dict[str, Callable[[int], bool]] = {
        "lt": lambda n: n < bound,
        "lte": lambda n: n <= bound,
        "eq": lambda n: n == bound,
        "neq": lambda n: n != bound,
    }
    return {"condition": tests[op], "need": None}
