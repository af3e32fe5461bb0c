"""Look-up tables of growing size: time to load them, and the cost of an event that is looked up."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator

from processes import table

from custodes._core import Engine, Tables

START = 1_767_600_000_000
CHUNK = 20_000
_WATCHED = {"field": {"name": "subject_watched", "test": {"bool": True}}}


def engine() -> Engine:
    rule = {
        "id": "watched", "when": _WATCHED, "group_by": ["actor"], "timespan_ms": 3_600_000, "resolution_ms": 6000,
        "keep_open_ms": 0, "holds": {"gte": 1_000_000_000}, "distinct": "subject",
    }  # fmt: skip
    plan = {
        "mapping": {name: [name] for name in ("time", "actor", "subject")},
        "derived": {"subject_watched": {"from": ["subject"], "by": {"table": {"name": "watched"}}}},
        "rules": [rule],
    }
    return Engine(json.dumps(plan))


def person(number: int) -> str:
    """Returns the identity number for a number."""
    return f"{number * 2_654_435_761 % 10**17:017}X"


def events(count: int, people: int) -> Iterator[bytes]:
    """Generates events; a tenth of the subjects are in the table."""
    for begin in range(0, count, CHUNK):
        yield b"".join(
            b'{"time":%d,"actor":"P%d","subject":"%s"}\n'
            % (START + n, n % 1000, person(n * 7919 % people if n % 10 == 0 else people + n).encode())
            for n in range(begin, begin + CHUNK)
        )


def per_event(counter: Engine, count: int, people: int) -> float:
    """Returns nanoseconds per event, without the time to generate the text."""
    spent = 0
    for text in events(count, people):
        begun = time.perf_counter_ns()
        counter.process_lines(text)
        spent += time.perf_counter_ns() - begun
    return spent / count


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--entries", type=int, nargs="*", default=[10_000, 1_000_000, 10_000_000])
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    rows: list[tuple[str, ...]] = []
    smallest = None
    for entries in options.entries:
        text = ("person\n" + "\n".join(map(person, range(entries))) + "\n").encode()
        tables = Tables()
        begun = time.perf_counter()
        known = tables.put("watched", text, [None], None, bytes(16))
        read = time.perf_counter() - begun
        each = []
        for _ in range(options.runs):
            asking = engine()
            asking.use_tables(tables)
            each.append(per_event(asking, options.events, entries))
        median = statistics.median(each)
        smallest = smallest or median
        rows.append((f"{known:,}", f"{read:.2f} s", f"{median:.0f} ns", f"{median / smallest:.2f}"))
    print(table(("entries", "read in", "per event", "relative to the smallest"), rows))


if __name__ == "__main__":
    main()
