"""How many threads the engine gets where nobody says."""

from __future__ import annotations

import os

MOST_THREADS = 64


def usable_cores() -> int:
    """Cores this process may use, four at most: beyond that, reading is what limits."""
    return min(4, len(os.sched_getaffinity(0)))
