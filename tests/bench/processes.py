"""Runs whole processes alternating and measures them with the operating system's accounting."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
HERE = Path(__file__).parent
CUSTODES = Path(sys.executable).parent / "custodes"
PEERS = ROOT / ".cache" / "bench"
PEER_PYTHON = PEERS / "python" / "bin" / "python"


Command = Sequence[str | Path]


@dataclass(frozen=True)
class ProcessStats:
    """One run of a whole process."""

    wall: float
    cpu: float
    peak_mb: float


def measure(command: Command) -> ProcessStats:
    """Runs a command to its end."""
    begun = time.perf_counter()
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command[0]} failed: {errors.decode()}")
    return ProcessStats(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def by_turns(commands: dict[str, Command], runs: int) -> dict[str, list[ProcessStats]]:
    """Runs each command once per round, so that a slow minute affects all; a first round warms the caches."""
    found: dict[str, list[ProcessStats]] = {name: [] for name in commands}
    for round_ in range(runs + 1):
        for name, command in commands.items():
            figures = measure(command)
            if round_:
                found[name].append(figures)
    return found


def median_ratio(first: Iterable[float], others: Iterable[float]) -> tuple[float, float, float]:
    """Returns the ratios of the others to ``first``, round by round: median, minimum, maximum."""
    ratios = sorted(other / one for one, other in zip(first, others, strict=True))
    return statistics.median(ratios), ratios[0], ratios[-1]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) + "\n"
