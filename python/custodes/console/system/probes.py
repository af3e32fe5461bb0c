"""What machines ask: metrics, whether all is well, and to read the configuration again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from custodes.config import Fault
from custodes.console.auth.session import Operating
from custodes.runtime.monitor import Monitor

_HANGS_AFTER = 30.0
"""Seconds without a round of the monitor's loop after which it is unhealthy."""


def probes(monitor: Monitor, reload: Callable[[], Sequence[Fault]] | None) -> APIRouter:
    """The routes. ``reload`` reads the configuration again and says what is wrong with it."""
    router = APIRouter(include_in_schema=False)

    @router.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> Response:
        return Response(monitor.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @router.get("/-/healthy", response_class=PlainTextResponse)
    def healthy() -> Response:
        if monitor.failure is not None:
            return PlainTextResponse(f"the monitor failed: {monitor.failure}\n", 503)
        stood = time.monotonic() - monitor.last_poll
        if stood > _HANGS_AFTER and not monitor.status.finished:
            return PlainTextResponse(f"the monitor has not gone round for {stood:.0f} s\n", 503)
        return PlainTextResponse("healthy\n")

    @router.get("/-/ready", response_class=PlainTextResponse)
    def ready() -> Response:
        if not monitor.status.ready:
            return PlainTextResponse("no stream to read yet\n", 503)
        return PlainTextResponse("ready\n")

    if reload is not None:

        @router.post("/-/reload", response_class=PlainTextResponse)
        def reload_(visitor: Operating) -> Response:
            faults = reload()
            if faults:
                return PlainTextResponse("".join(f"{fault}\n" for fault in faults), 400)
            return PlainTextResponse("reloaded\n")

    return router
