"""The overview as it changes: rendered once for all who watch it, not once for each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from fastapi.concurrency import run_in_threadpool

from custodes.console.naming import Naming
from custodes.console.rendering import render
from custodes.console.view import overview
from custodes.monitor import Monitor

_REFRESH_SECONDS = 1.0
_LEAST_SECONDS = 0.2
"""Between two renderings: a storm of findings must not become a storm of pages."""


class LiveOverview:
    """Used from the server's loop alone."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._rendered: dict[bool, tuple[float, str]] = {}
        self._rendering = asyncio.Lock()

    async def updates(self, naming: Naming) -> AsyncIterator[str]:
        """The page whenever something has changed, and once a second; ends with the server."""
        seen = -1
        while not self._monitor.feed.closed:
            seen = await self._monitor.feed.wait(seen, timeout=_REFRESH_SECONDS)
            yield await self._latest(naming)
            await asyncio.sleep(_LEAST_SECONDS)

    async def _latest(self, naming: Naming) -> str:
        """As it was at most a moment ago: it depends on nothing but whether names are shown."""
        async with self._rendering:
            at, text = self._rendered.get(naming.is_plain, (float("-inf"), ""))
            if time.monotonic() - at >= _LEAST_SECONDS:
                text = await run_in_threadpool(lambda: render("live.html", view=overview(self._monitor, naming)))
                self._rendered[naming.is_plain] = (time.monotonic(), text)
            return text
