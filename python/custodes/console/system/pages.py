"""The System page."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from custodes.console.auth.session import Viewer
from custodes.console.rendering import page
from custodes.console.services import Provided
from custodes.console.system.view import system_view

router = APIRouter(include_in_schema=False)


@router.get("/system")
def system(request: Request, visitor: Viewer, services: Provided) -> Response:
    return page(request, "system.html", view=system_view(services))
