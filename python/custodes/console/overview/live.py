"""Live updates of the overview: one rendering is shared by all open pages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from sse_starlette import ServerSentEvent

from custodes.console.auth.pseudonyms import LinkedPseudonyms
from custodes.console.localization import ReaderLocale, current
from custodes.console.overview.view import overview
from custodes.console.rendering import render
from custodes.console.services import Services

_REFRESH_SECONDS = 1.0
_LEAST_SECONDS = 0.2
"""Shortest time between two renderings, whatever the rate of findings."""
_MOST_SENT = 100
"""Largest number of renderings sent per second to all open pages; with more pages, each is updated less often."""


class LiveOverview:
    """Streams of overview updates. It is used in the server's event loop only."""

    def __init__(self, services: Services) -> None:
        self._feed = services.monitor.feed
        self._services = services
        self._broadcasts: dict[tuple[bool, ReaderLocale], _Broadcast] = {}

    async def updates(self, naming: LinkedPseudonyms) -> AsyncIterator[bytes]:
        """Yields the page as a server-sent event on each change and once a second, until the server stops.

        The content depends only on whether names are shown, and on the reader's language and time zone.
        """
        broadcast = self._broadcasts.setdefault((naming.is_plain, current()), _Broadcast(self._services))
        broadcast.watchers += 1
        try:
            while not self._feed.closed:
                yield await broadcast.next(naming)
        finally:
            broadcast.watchers -= 1


class _Broadcast:
    """Renders one page at a time; the first waiting stream starts the rendering."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._seen = -1
        self._coming: asyncio.Task[bytes] | None = None
        self.watchers = 0

    async def next(self, naming: LinkedPseudonyms) -> bytes:
        if self._coming is None or self._coming.done():
            self._coming = asyncio.create_task(self._render(naming))
        # A closed stream must not cancel the rendering for other streams.
        return await asyncio.shield(self._coming)

    async def _render(self, naming: LinkedPseudonyms) -> bytes:
        await asyncio.sleep(max(_LEAST_SECONDS, self.watchers / _MOST_SENT))
        self._seen = await self._services.monitor.feed.wait(self._seen, timeout=_REFRESH_SECONDS)
        text = await run_in_threadpool(lambda: render("live.html", view=overview(self._services), naming=naming))
        return ServerSentEvent(data=text, event="overview").encode()


def _live_overview(request: Request) -> LiveOverview:
    overviews: LiveOverview = request.app.state.live_overview
    return overviews


Live = Annotated[LiveOverview, Depends(_live_overview)]
