"""Replay of one file, whole processes alternating: three rules, and the first of them alone.

The three: look-ups per actor over 10 minutes, distinct subjects per actor over an hour, distinct actors per subject
over a day. Each peer runs those that it supports.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from events import write_events
from processes import CUSTODES, HERE, PEER_PYTHON, PEERS, Command, by_turns, median_ratio, table


def compare(path: Path, commands: dict[str, Command], events: int, runs: int) -> str:
    """Runs the commands; the first is the reference for the others."""
    found = by_turns(commands, runs)
    ours = next(iter(found.values()))
    rows = []
    for name, figures in found.items():
        wall = statistics.median(f.wall for f in figures)
        cpu = statistics.median(f.cpu for f in figures)
        peak = statistics.median(f.peak_mb for f in figures)
        middle, least, most = median_ratio([f.wall for f in ours], [f.wall for f in figures])
        ratio = "" if figures is ours else f"{middle:.1f} ({least:.1f} to {most:.1f})"
        rows.append((name, f"{events / wall:,.0f}", f"{wall:.2f}", f"{cpu:.2f}", f"{peak:.0f}", ratio))
    return table(("", "events/s", "wall s", "CPU s", "peak MB", "times as long"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="custodes-bench-") as folder:
        path = Path(folder) / "events.jsonl"
        write_events(path, options.events)
        size = path.stat().st_size / options.events
        print(
            f"{options.events:,} events of {size:.0f} bytes, whole processes alternating, medians of {options.runs}.\n"
        )
        replay: Command = [CUSTODES, "replay", path, "--output", "ndjson"]
        three: Command
        one: Command
        three, one = [*replay, "--rules", HERE / "rules.yml"], [*replay, "--rules", HERE / "count.yml"]
        commands: dict[str, Command] = {
            "custodes, 1 thread": [*three, "--threads", "1"],
            "custodes, one thread per core": three,
            "hand-written Python": [sys.executable, HERE / "peers" / "handwritten.py", path],
        }
        print("Three rules:\n")
        print(compare(path, commands, options.events, options.runs))
        commands = {"custodes, 1 thread": [*one, "--threads", "1"]}
        commands["hand-written Python"] = [sys.executable, HERE / "peers" / "handwritten.py", path, "--count-only"]
        if (rsigma := PEERS / "bin" / "rsigma").exists():
            evaluate = ["-q", "engine", "eval", "--no-detections", "--timestamp-field", "time"]
            commands["rsigma 0.23"] = [rsigma, *evaluate, "-r", HERE / "count.yml", "-e", f"@{path}"]
        if PEER_PYTHON.exists():
            commands["Bytewax 0.21, stateful_map"] = [PEER_PYTHON, HERE / "peers" / "bytewax_count.py", path]
        if (flink := PEERS / "flink" / "classes").exists():
            classes = f"{flink}:{PEERS / 'flink' / '*'}"
            commands["Flink 2.1 SQL, HOP of a minute"] = ["java", "-cp", classes, "HopCount", path]
        print("The count per actor over 10 minutes alone:\n")
        print(compare(path, commands, options.events, options.runs))


if __name__ == "__main__":
    main()
