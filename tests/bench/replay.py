"""`make bench`: one file, two rules, `custodes replay` and a hand-written program by turns, medians and ratios.

Both do the same: read the file, parse each line, count look-ups per actor over 10 minutes and distinct
subjects per actor over an hour, and notice when a threshold is passed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from events import write_events

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Figures:
    """One run of a whole process."""

    wall: float
    cpu: float
    peak_mb: float


def measure(command: list[str]) -> Figures:
    """Runs a command to its end, by the operating system's own accounts."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command[0]} failed: {errors.decode()}")
    return Figures(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="custodes-bench-") as folder:
        path = Path(folder) / "events.jsonl"
        write_events(path, options.events)
        size = path.stat().st_size
        print(
            f"{options.events:,} events of {size / options.events:.0f} bytes, two rules, {options.runs} runs by turns"
        )
        custodes = [str(Path(sys.executable).parent / "custodes"), "replay", str(path), "--output", "ndjson"]
        commands = {
            "custodes replay": [*custodes, "--rules", str(HERE / "rules.yml")],
            "hand-written Python": [sys.executable, str(HERE / "handwritten.py"), str(path)],
        }
        runs: dict[str, list[Figures]] = {name: [] for name in commands}
        for command in commands.values():
            measure(command)  # once to warm the page cache
        for _ in range(options.runs):
            for name, command in commands.items():
                runs[name].append(measure(command))
    print(f"{'':<22}{'events/s':>12}{'wall s':>9}{'CPU s':>9}{'peak MB':>9}")
    for name, figures in runs.items():
        wall = statistics.median(f.wall for f in figures)
        cpu = statistics.median(f.cpu for f in figures)
        peak = statistics.median(f.peak_mb for f in figures)
        print(f"{name:<22}{options.events / wall:>12,.0f}{wall:>9.2f}{cpu:>9.2f}{peak:>9.0f}")
    ours, theirs = runs.values()
    ratios = sorted(b.wall / a.wall for a, b in zip(ours, theirs, strict=True))
    print(f"ratio (wall, pair by pair): median {statistics.median(ratios):.1f}, {ratios[0]:.1f} to {ratios[-1]:.1f}")


if __name__ == "__main__":
    main()
