"""Cost of encryption: `custodes run` with history and evidence, alternating with and without keys."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from events import write_events
from running import by_turns

from custodes.encryption.keys import add_key


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
        by_turns(
            home,
            home / "stream.jsonl",
            chosen.events,
            chosen.rounds,
            ("in the plain", {}),
            ("encrypted", {"encryption": encryption}),
        )


if __name__ == "__main__":
    main()
