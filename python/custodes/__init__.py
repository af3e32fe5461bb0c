"""Custodes watches the people who are trusted to look at other people's records."""

import os

# The engine's allocator reads it as it is loaded, so it comes first. To have the kernel look for pages of 2 MiB and
# empty them takes longer than windows gain by them.
os.environ.setdefault("MIMALLOC_ALLOW_THP", "0")

from custodes import _core

__version__ = _core.VERSION
