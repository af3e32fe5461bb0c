"""Time and memory as rules, groups and values grow: the engine alone, on one thread."""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from processes import table

from custodes._core import Engine

START = 1_767_600_000_000
CHUNK = 20_000

Pick = Callable[[int], int]


def chunks(events: int, actor: Pick, subject: Pick, *, first: int = 0, per_second: int = 100_000) -> Iterator[bytes]:
    """Yields JSON Lines ordered by time, ``per_second`` of event time, some thousands per chunk."""
    for begin in range(first, first + events, CHUNK):
        yield b"".join(
            b'{"time":%d,"actor":"P%d","subject":"S%d","resource":"r%d","action":"read"}\n'
            % (START + n * 1000 // per_second, actor(n), subject(n), n % 3)
            for n in range(begin, min(begin + CHUNK, first + events))
        )


def rule(name: str, group_by: list[str], seconds: int, **more: Any) -> dict[str, Any]:
    resolution = max(1000, seconds * 1000 // 600)
    span = seconds * 1000 // resolution * resolution
    when = {"field": {"name": "action", "test": {"text": {"parts": [{"literal": "read"}]}}}}
    return {
        "id": name, "when": when, "group_by": group_by, "timespan_ms": span, "resolution_ms": resolution,
        "keep_open_ms": span, "holds": {"gte": 1_000_000_000}, **more,
    }  # fmt: skip


def engine(*rules: dict[str, Any]) -> Engine:
    fields = ("time", "actor", "subject", "resource", "action")
    return Engine(json.dumps({"mapping": {name: [name] for name in fields}, "rules": rules}))


def per_event(counter: Engine, texts: Iterator[bytes]) -> float:
    """Returns nanoseconds per event, without the time to generate the text."""
    nanoseconds = events = 0
    for text in texts:
        begun = time.perf_counter_ns()
        events += counter.process_lines(text).events
        nanoseconds += time.perf_counter_ns() - begun
    return nanoseconds / events


def spread(n: int, over: int) -> int:
    """Returns a pseudo-random number below ``over``; each value occurs once before any repeats."""
    return n * 2_654_435_761 % over


def rules_and_time(runs: int) -> list[tuple[str, str, str]]:
    """Compares one rule with a hundred over twenty different pairs of group-by and timespan."""
    groupings = (["actor"], ["subject"], ["resource"], ["actor", "resource"])
    spans = (300, 600, 3600, 7200, 86_400)
    hundred = [
        rule(f"r{g}-{s}-{n}", grouping, span, holds={"gte": 1_000_000 + n})
        for g, grouping in enumerate(groupings)
        for s, span in enumerate(spans)
        for n in range(5)
    ]
    rng = random.Random(1)
    actors = [int(5000 * rng.random() ** 2) for _ in range(400_000)]
    one_ns: list[float] = []
    many_ns: list[float] = []
    for _ in range(runs):
        for rules, found in ((hundred[:1], one_ns), (hundred, many_ns)):
            texts = chunks(len(actors), actors.__getitem__, lambda n: spread(n, 20_000), per_second=1000)
            found.append(per_event(engine(*rules), texts))
    return compared("1 rule → 100 rules", one_ns, many_ns)


def groups_and_time(runs: int, many: int) -> list[tuple[str, str, str]]:
    """Compares ten thousand groups with ten million, all created before the measurement."""
    found: dict[int, list[float]] = {10_000: [], many: []}
    for groups, times in found.items():
        counter = engine(rule("r", ["actor"], 3600))
        for text in chunks(groups, lambda n, groups=groups: spread(n, groups), lambda _: 0):  # type: ignore[misc]
            counter.process_lines(text)
        for run in range(runs):
            first = groups + run * 1_000_000
            texts = chunks(1_000_000, lambda n, groups=groups: spread(n, groups), lambda _: 0, first=first)  # type: ignore[misc]
            times.append(per_event(counter, texts))
    return compared(f"10,000 → {many:,} groups", *found.values())


def hot_key_and_time(runs: int) -> list[tuple[str, str, str]]:
    """Compares one actor with half of the events with uniformly distributed actors."""
    even_ns: list[float] = []
    hot_ns: list[float] = []
    for _ in range(runs):
        for found, actor in (
            (even_ns, lambda n: spread(n, 20_000)),
            (hot_ns, lambda n: 0 if n % 2 else spread(n, 20_000)),
        ):
            counter = engine(rule("r", ["actor"], 600), rule("d", ["actor"], 3600, distinct="subject"))
            found.append(per_event(counter, chunks(500_000, actor, lambda n: spread(n, 100_000), per_second=1000)))
    return compared("uniform → one key with half of the events", even_ns, hot_ns)


def compared(what: str, before: list[float], after: list[float]) -> list[tuple[str, str, str]]:
    first, then = statistics.median(before), statistics.median(after)
    return [(what, f"{first:.0f} → {then:.0f} ns per event", f"{then / first:.2f}")]


def memory(many: int) -> list[tuple[str, str]]:
    """Measures the bytes of a light group and of a pair, with that many of them alive."""
    rows = []
    before = peak_mb()
    light = engine(rule("r", ["actor"], 86_400))
    for text in chunks(4 * many, lambda n: spread(n, many), lambda _: 0, per_second=4 * many // 80_000):
        light.process_lines(text)
    stats = light.stats()
    assert stats.rules[0].groups == many
    rows.append((f"a group with four events in its window, {many:,} of them", f"{stats.bytes / many:.1f} bytes"))
    rows.append(("the process grew by", f"{(peak_mb() - before) * 1e6 / many:.1f} bytes per group"))
    del light
    actors = 1000
    pairs = engine(rule("d", ["actor"], 86_400, distinct="subject"))
    for text in chunks(many, lambda n: n % actors, lambda n: n // actors, per_second=many // 80_000):
        pairs.process_lines(text)
    alone = engine(rule("r", ["actor"], 86_400))
    for text in chunks(many, lambda n: n % actors, lambda _: 0, per_second=many // 80_000):
        alone.process_lines(text)
    own = pairs.stats().bytes - alone.stats().bytes
    rows.append((f"a pair of group and value, {many:,} of them", f"{own / many:.1f} bytes"))
    return rows


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--many", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    rows = memory(options.many)
    print(table(("memory per", ""), rows))
    times = rules_and_time(options.runs) + hot_key_and_time(options.runs) + groups_and_time(options.runs, options.many)
    print(table(("", "", "times as long"), times))


if __name__ == "__main__":
    main()
