"""Measures the throughput of `custodes run` on files."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from processes import CUSTODES, HERE

from servers import Server, free_port, get_json


@contextmanager
def monitor(home: Path, files: Sequence[Path], **config: Any) -> Iterator[tuple[Server, str]]:
    """A running monitor and its address; ``config`` has additional keys."""
    address = f"127.0.0.1:{free_port()}"
    whole = {
        "source": {"file": {"paths": [str(file) for file in files]}},
        "http": {"listen": address},
        "event_time": {"max_future_skew": "3650d"},
        **config,
    }
    home.mkdir()
    (home / "custodes.yaml").write_text(yaml.safe_dump(whole))
    server = Server(home, [CUSTODES, "run", "-c", "custodes.yaml"])
    try:
        yield server, f"http://{address}"
    finally:
        server.stop()


def _wait(base: str, done: Callable[[], bool]) -> int:
    while not done():
        time.sleep(0.1)
    return 0


def rate(
    home: Path, file: Path, events: int, *, beside: Callable[[str, Callable[[], bool]], int] = _wait, **config: Any
) -> tuple[float, int]:
    """Returns events per second from the first to the last counted event, and the result of ``beside``."""
    with monitor(home, [file], **{"rules": [str(HERE / "rules.yml")], **config}) as (server, base):
        status = f"{base}/api/v1/status"
        first = server.wait_for("it to read", lambda: get_json(status)["events"])
        begun = time.perf_counter()
        ended = begun

        def is_done() -> bool:
            nonlocal ended
            ended = time.perf_counter()
            return bool(get_json(status)["events"] >= events)

        given = beside(base, is_done)
    return (events - first) / (ended - begun), given


def by_turns(
    home: Path,
    file: Path,
    events: int,
    rounds: int,
    without: tuple[str, dict[str, Any]],
    having: tuple[str, dict[str, Any]],
) -> None:
    """Prints the throughput of two named configurations, measured alternating."""
    ratios = []
    for number in range(rounds):
        before, _ = rate(home / f"without{number}", file, events, **without[1])
        after, _ = rate(home / f"having{number}", file, events, **having[1])
        ratios.append(after / before)
        print(f"{before:,.0f} events/s {without[0]}, {after:,.0f} {having[0]}: {after / before:.3f}")
    print(f"ratio {statistics.median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}")
