"""The overview page and its event stream."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from sse_starlette import EventSourceResponse

from custodes.console.auth.session import Viewer
from custodes.console.overview.live import Live
from custodes.console.overview.view import overview
from custodes.console.rendering import page
from custodes.console.services import Provided

router = APIRouter(include_in_schema=False)


@router.get("/")
def first(request: Request, visitor: Viewer, services: Provided) -> Response:
    return page(request, "overview.html", view=overview(services))


@router.get("/live")
async def live(visitor: Viewer, services: Provided, overviews: Live) -> EventSourceResponse:
    return EventSourceResponse(overviews.updates(services.naming(visitor)), headers={"X-Accel-Buffering": "no"})
