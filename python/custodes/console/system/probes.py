"""Endpoints for machines: metrics, health probes and reload."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import PlainTextResponse

from custodes.config import Fault
from custodes.console.auth.session import Operator
from custodes.console.services import Provided


def _reload(request: Request) -> Callable[[], Sequence[Fault]]:
    reload: Callable[[], Sequence[Fault]] = request.app.state.reload
    return reload


_Reloader = Annotated[Callable[[], Sequence[Fault]], Depends(_reload)]
_HANGS_AFTER = 30.0
"""Seconds without an iteration of the monitor's loop after which it is unhealthy."""


router = APIRouter(include_in_schema=False)
reload_router = APIRouter(include_in_schema=False)
"""Router for an application that can reload its configuration."""


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(services: Provided) -> Response:
    return Response(services.monitor.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/-/healthy", response_class=PlainTextResponse)
def healthy(services: Provided) -> Response:
    if services.monitor.failure is not None:
        return PlainTextResponse(f"the monitor failed: {services.monitor.failure}\n", 503)
    idle = time.monotonic() - services.monitor.last_poll
    if idle > _HANGS_AFTER and not services.monitor.status.finished:
        return PlainTextResponse(f"the monitor's loop has not run for {idle:.0f} s\n", 503)
    return PlainTextResponse("healthy\n")


@router.get("/-/ready", response_class=PlainTextResponse)
def ready(services: Provided) -> Response:
    if not services.monitor.status.ready:
        return PlainTextResponse("no stream to read yet\n", 503)
    return PlainTextResponse("ready\n")


@reload_router.post("/-/reload", response_class=PlainTextResponse)
def reload_(visitor: Operator, reload: _Reloader) -> Response:
    faults = reload()
    if faults:
        return PlainTextResponse("".join(f"{fault}\n" for fault in faults), 400)
    return PlainTextResponse("reloaded\n")
