"""How much memory windows may take where nobody says."""

from __future__ import annotations

import os
from pathlib import Path

_CONTAINER = Path("/sys/fs/cgroup/memory.max")


def half_of_memory() -> int:
    """Half of what this process may use, in bytes: of its container's limit, or else of the machine's memory."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = int(_CONTAINER.read_text())
    except (OSError, ValueError):
        # No container, or one without a limit, which reads as "max".
        return machine // 2
    return min(limit, machine) // 2
