"""What a good programmer writes in an afternoon: orjson, deque and dict. The peer of `make bench`.

The same two rules as rules.yml, for input in order of time only. Prints how often each condition began to hold.
"""

from __future__ import annotations

import sys
from collections import defaultdict, deque
from datetime import datetime
from pathlib import Path

import orjson


def main(path: Path) -> None:
    counts: defaultdict[str, deque[float]] = defaultdict(deque)
    seen: defaultdict[str, deque[tuple[float, str]]] = defaultdict(deque)
    distinct: defaultdict[str, dict[str, int]] = defaultdict(dict)
    above_count: set[str] = set()
    above_distinct: set[str] = set()
    began = [0, 0]
    with path.open("rb") as file:
        for line in file:
            event = orjson.loads(line)
            if event["action"] != "read":
                continue
            time = datetime.fromisoformat(event["time"]).timestamp()
            actor, subject = event["actor"], event["subject"]

            window = counts[actor]
            window.append(time)
            while window[0] <= time - 600:
                window.popleft()
            if len(window) < 120:
                above_count.discard(actor)
            elif actor not in above_count:
                above_count.add(actor)
                began[0] += 1

            people, live = seen[actor], distinct[actor]
            people.append((time, subject))
            live[subject] = live.get(subject, 0) + 1
            while people[0][0] <= time - 3600:
                _, left = people.popleft()
                if live[left] == 1:
                    del live[left]
                else:
                    live[left] -= 1
            if len(live) < 300:
                above_distinct.discard(actor)
            elif actor not in above_distinct:
                above_distinct.add(actor)
                began[1] += 1
    print(orjson.dumps({"began": began}).decode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
