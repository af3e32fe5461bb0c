"""Cost of evidence: runs alternating with and without it; and the time to verify a million entries."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from events import write_events
from running import by_turns

from custodes._core import EvidenceLog, verify_evidence
from custodes.encryption.keys import NO_KEYS

ENTRIES = 1_000_000
AT_ONCE = 100


def million(folder: Path) -> EvidenceLog:
    """Writes a log of ``entries`` entries, each an event of 230 bytes."""
    log = EvidenceLog(folder, "custodes/bench", os.urandom(32), NO_KEYS.files)
    for block in range(ENTRIES // AT_ONCE):
        entries = []
        for n in range(block * AT_ONCE, (block + 1) * AT_ONCE):
            record = {
                "time": f"2026-11-24T08:{n // 60 % 60:02}:{n % 60:02}.123Z", "actor": f"P{n % 997:04}",
                "subject": f"41010519{n * 7_368_787 % 10**10:010}", "resource": "person.identity", "action": "read",
                "peer_group": "traffic", "purpose": f"case-2026-{n % 999_983:06}", "client_ip": "10.1.2.3",
                "app": "desk",
            }  # fmt: skip
            entry = {"kind": "event", "source": "access/0", "position": n, "record": json.dumps(record)}
            entries.append(json.dumps(entry).encode())
        log.append(os.urandom(16), entries, 0)
    return log


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "log").mkdir()
        log = million(home / "log")
        took = []
        for _ in range(chosen.rounds):
            begun = time.perf_counter()
            assert not verify_evidence(home / "log", [log.key], [], b"", NO_KEYS.files).faults
            took.append(time.perf_counter() - begun)
        print(f"{ENTRIES:,} entries verified in {statistics.median(took):.2f} s, {max(took):.2f} s at most")
        write_events(home / "stream.jsonl", chosen.events)
        by_turns(
            home,
            home / "stream.jsonl",
            chosen.events,
            chosen.rounds,
            ("without evidence", {"evidence": None}),
            ("with it", {}),
        )


if __name__ == "__main__":
    main()
