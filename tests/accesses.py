"""Writes files of access events."""

from __future__ import annotations

import json
from pathlib import Path


def write_accesses(path: Path, actor: str, count: int) -> None:
    """Writes look-ups by one actor within half an hour."""
    with path.open("w") as file:
        for n in range(count):
            event = {"time": 1_767_600_000 + n * 9, "actor": actor, "subject": f"S{n}", "action": "read"}
            file.write(json.dumps(event) + "\n")
