"""`make detect`: detection rate of the shipped rules in half years not used for tuning, into docs/detection.md.

Each half year is simulated once with insiders and once without, all other work being equal. Findings that appear only
with insiders are due to them; findings without insiders are false. Other methods process the same half years and may
raise the same number of false findings.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor

from detection.half_years import Season, season
from detection.report import report
from page import write_part
from processes import ROOT

from custodes.rules import load_rules, shipped_pack

PAGE, PLOTS = ROOT / "docs" / "detection.md", ROOT / "docs" / "images"
UNSEEN = range(1001, 1011)
"""Seeds that were never used for tuning."""


def run(seed: int, people: int) -> Season:
    return season(seed, load_rules(shipped_pack()), people)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--people", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="*", default=list(UNSEEN))
    parser.add_argument("--write", action="store_true", help="into the page; otherwise to standard output")
    options = parser.parse_args()
    seasons: list[Season] = []
    with ProcessPoolExecutor() as pool:
        for done in pool.map(run, options.seeds, [options.people] * len(options.seeds)):
            seasons.append(done)
            print(f"half year {done.seed}: {done.events:,} events", file=sys.stderr)
    text = report(seasons, PLOTS)
    if not options.write:
        print(text)
        return
    write_part(PAGE, "make detect", text)


if __name__ == "__main__":
    main()
