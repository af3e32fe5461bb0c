"""Default for the memory limit of window state."""

from __future__ import annotations

import os
from pathlib import Path


def half_of_memory(root: Path = Path("/")) -> int:
    """Returns half of the memory this process may use, in bytes: of the smallest limit of its control groups, or of the
    machine."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_limits(root)]) // 2


def _limits(root: Path) -> list[int]:
    """Yields the memory limits of the process's control group (version 2) and its ancestors."""
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
            """No limit is set (`max`), or this is the root group, which has none."""
    return limits
