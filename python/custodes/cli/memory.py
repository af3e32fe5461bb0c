"""What the process does with memory it is done with: it keeps some for next time."""

from __future__ import annotations

import ctypes

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_LARGEST_KEPT = 32 << 20
"""The most glibc takes. Larger blocks are given back as soon as they are free."""
_MOST_KEPT = 128 << 20
_ASKED_AT_ONCE = 8 << 20


def keep_freed_memory() -> bool:
    """Lets glibc keep up to 128 MiB of freed memory rather than give it back at once, and ask for more in one go.

    A fetch is a few megabytes in several copies, which would be asked of the kernel page by page each time: two
    microseconds a page, a fifth of all the time it takes to read a topic. Returns whether the C library knows the
    settings; another than glibc is left as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((_M_MMAP_THRESHOLD, _LARGEST_KEPT), (_M_TRIM_THRESHOLD, _MOST_KEPT), (_M_TOP_PAD, _ASKED_AT_ONCE))
    return all(mallopt(setting, value) for setting, value in settings)
