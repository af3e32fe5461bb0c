"""How much memory windows may take where nobody says."""

from __future__ import annotations

import os
from pathlib import Path


def half_of_memory(root: Path = Path("/")) -> int:
    """Half of what this process may use, in bytes: of the least limit of its control groups, or else of the machine."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_limits(root)]) // 2


def _limits(root: Path) -> list[int]:
    """The limits of the process's control group (version 2) and of those around it; none where there are none."""
    groups = root / "sys/fs/cgroup"
    try:
        name = (root / "proc/self/cgroup").read_text().partition("0::/")[2].strip()
    except OSError:
        return []
    own = groups / name
    limits = []
    for group in (own, *(parent for parent in own.parents if parent.is_relative_to(groups))):
        try:
            limits.append(int((group / "memory.max").read_text()))
        except (OSError, ValueError):
            """Without a limit, which reads as `max`, or the outermost, which has none."""
    return limits
