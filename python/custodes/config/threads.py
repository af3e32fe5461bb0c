"""Default for the number of engine threads."""

from __future__ import annotations

import os

MOST_THREADS = 64


def usable_cores() -> int:
    """Returns the number of cores this process may use, at most four: beyond that, reading is the bottleneck."""
    return min(4, len(os.sched_getaffinity(0)))
