"""Custodes detects misuse of legitimate data access."""

import os

# The engine's allocator reads this when it is loaded, so it comes first. Searching for and clearing pages of 2 MiB
# costs the kernel more time than window state gains from them.
os.environ.setdefault("MIMALLOC_ALLOW_THP", "0")

from custodes import _core

__version__ = _core.VERSION
