"""What encryption costs the stream: `custodes run` with history and evidence, with keys and without, by turns."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from events import write_events
from running import rate

from custodes.encryption import add_key


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        write_events(home / "stream.jsonl", chosen.events)
        add_key(home / "names.keys", "bench")
        encryption = {"keys": str(home / "names.keys")}
        ratios = []
        for number in range(chosen.rounds):
            plain, _ = rate(home / f"plain{number}", home / "stream.jsonl", chosen.events)
            kept, _ = rate(home / f"kept{number}", home / "stream.jsonl", chosen.events, encryption=encryption)
            ratios.append(kept / plain)
            print(f"{plain:,.0f} events/s in the plain, {kept:,.0f} encrypted: {kept / plain:.3f}")
        print(f"ratio {statistics.median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}")


if __name__ == "__main__":
    main()
