"""Program that a good programmer writes in an afternoon: orjson, deque and dict.

Implements the three rules of rules.yml, or the first alone, for ordered input only. Prints how often each condition
became true.
"""

from __future__ import annotations

import sys
from collections import defaultdict, deque
from datetime import datetime
from pathlib import Path

import orjson


class Distinct:
    """Distinct values in a window, and whether they reach the threshold."""

    def __init__(self, span: float, least: int) -> None:
        self.span = span
        self.least = least
        self.seen: deque[tuple[float, str]] = deque()
        self.live: dict[str, int] = {}
        self.above = False

    def begins(self, time: float, value: str) -> bool:
        seen, live = self.seen, self.live
        seen.append((time, value))
        live[value] = live.get(value, 0) + 1
        while seen[0][0] <= time - self.span:
            _, left = seen.popleft()
            if live[left] == 1:
                del live[left]
            else:
                live[left] -= 1
        was, self.above = self.above, len(live) >= self.least
        return self.above and not was


def main(path: Path, count_only: bool) -> None:
    counts: defaultdict[str, deque[float]] = defaultdict(deque)
    people: defaultdict[str, Distinct] = defaultdict(lambda: Distinct(3600, 600))
    watchers: defaultdict[str, Distinct] = defaultdict(lambda: Distinct(86_400, 60))
    above: set[str] = set()
    began = [0, 0, 0]
    with path.open("rb") as file:
        for line in file:
            event = orjson.loads(line)
            if event["action"] != "read":
                continue
            time = datetime.fromisoformat(event["time"]).timestamp()
            actor = event["actor"]
            window = counts[actor]
            window.append(time)
            while window[0] <= time - 600:
                window.popleft()
            if len(window) < 200:
                above.discard(actor)
            elif actor not in above:
                above.add(actor)
                began[0] += 1
            if not count_only:
                subject = event["subject"]
                began[1] += people[actor].begins(time, subject)
                began[2] += watchers[subject].begins(time, actor)
    print(orjson.dumps({"began": began}).decode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--count-only" in sys.argv)
