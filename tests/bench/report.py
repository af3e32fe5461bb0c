"""`make bench`: runs every benchmark and writes docs/performance.md between its two marks."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from page import write_part
from processes import HERE, ROOT

PAGE = ROOT / "docs" / "performance.md"


def machine() -> str:
    """Returns a description of the machine and the versions."""
    lines = open("/proc/cpuinfo", encoding="utf-8").read().splitlines()  # noqa: PTH123, SIM115 - a line is wanted
    cpu = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())
    rust = subprocess.run(["rustc", "--version"], check=True, capture_output=True, text=True).stdout.split()[1]
    kafka = importlib.metadata.version("kafka-python")
    versions = f"Python {platform.python_version()}, Rust {rust}, kafka-python {kafka}"
    return f"{os.cpu_count()} cores of {cpu}, {versions}, {datetime.now(UTC).date()}."


def output(name: str, *options: str) -> str:
    command: list[str | Path] = [sys.executable, HERE / f"{name}.py", *options]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", default="5")
    options = parser.parse_args()
    parts = [f"On {machine()}"]
    for title, name, more in (
        ("Stage by stage", "stages", ()),
        ("Replay of a file", "replay", ("--runs", options.runs)),
        ("From a broker", "broker", ("--runs", options.runs)),
        ("Finding latency", "latency", ()),
        ("Scaling", "scaling", ()),
        ("Look-up tables", "tables", ()),
        ("Snapshots and restarts", "restart", ()),
    ):
        print(f"{name} …", file=sys.stderr)
        parts += [f"### {title}", f"`tests/bench/{name}.py`", output(name, *more)]
    write_part(PAGE, "make bench", "\n\n".join(parts))


if __name__ == "__main__":
    main()
