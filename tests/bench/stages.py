"""Time of each stage of the engine, by criterion (rust/engine/benches/stages.rs)."""

from __future__ import annotations

import json
import subprocess
import sys

from processes import ROOT, table

RESULTS = ROOT / "target" / "criterion"


def main() -> None:
    command = ["cargo", "bench", "--quiet", "--locked", "-p", "custodes-engine", "--bench", "stages"]
    ran = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if ran.returncode:
        sys.exit(ran.stdout)
    rows = []
    for path in sorted(RESULTS.glob("*/*/new/benchmark.json"), key=lambda path: path.stat().st_mtime):
        benchmark = json.loads(path.read_bytes())
        median = json.loads(path.with_name("estimates.json").read_bytes())["median"]
        events = benchmark["throughput"]["Elements"]
        bounds = (median["confidence_interval"][bound] / events for bound in ("lower_bound", "upper_bound"))
        within = " to ".join(f"{bound:.0f}" for bound in bounds)
        row = (
            f"{benchmark['group_id']}: {benchmark['function_id']}",
            f"{median['point_estimate'] / events:.0f}",
            within,
        )
        rows.append(row)
    print("One thread, 100,000 events in memory at a time.\n")
    print(table(("", "ns per event, median", "95 % confidence"), rows))


if __name__ == "__main__":
    main()
