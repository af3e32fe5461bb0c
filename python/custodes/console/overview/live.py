"""The overview as it changes: rendered once for all who watch it, not once for each."""

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
"""Between two renderings: a storm of findings must not become a storm of pages."""
_MOST_SENT = 100
"""Renderings sent in a second, to all who watch; the more there are, the longer each waits for the next."""


class LiveOverview:
    """Used from the server's loop alone."""

    def __init__(self, services: Services) -> None:
        self._feed = services.monitor.feed
        self._services = services
        self._broadcasts: dict[tuple[bool, ReaderLocale], _Broadcast] = {}

    async def updates(self, naming: LinkedPseudonyms) -> AsyncIterator[bytes]:
        """The page as an event whenever something has changed, and once a second; ends with the server.

        It depends on nothing but whether names are shown, and how whoever watches reads.
        """
        broadcast = self._broadcasts.setdefault((naming.is_plain, current()), _Broadcast(self._services))
        broadcast.watchers += 1
        try:
            while not self._feed.closed:
                yield await broadcast.next(naming)
        finally:
            broadcast.watchers -= 1


class _Broadcast:
    """One rendering after the other, each begun by the first who waits for it."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._seen = -1
        self._coming: asyncio.Task[bytes] | None = None
        self.watchers = 0

    async def next(self, naming: LinkedPseudonyms) -> bytes:
        if self._coming is None or self._coming.done():
            self._coming = asyncio.create_task(self._render(naming))
        # Whoever leaves does not take it from the others.
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
