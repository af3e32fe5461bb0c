"""`make detect`: how well the shipped rules find insiders in half years nothing was tuned on, into docs/detection.md.

Each half year is simulated once with insiders and once without, everybody else's work being the same; so what is found
only with them is due to them, and what is found without them is false. Other methods see the same half years, and may
raise as many false findings.
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
"""Nothing was ever tuned on these."""


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
