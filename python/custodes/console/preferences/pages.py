"""The page for language and time zone."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

from custodes.console.auth.session import Viewer, put_cookie, require_form_token
from custodes.console.localization import LANGUAGE_COOKIE, LANGUAGES, ZONE_COOKIE, current, zones
from custodes.console.rendering import page

router = APIRouter(include_in_schema=False)


_YEAR = 365 * 86_400


@router.get("/preferences")
def preferences(request: Request, visitor: Viewer) -> Response:
    return page(
        request, "preferences.html", languages=LANGUAGES, zones=sorted(zones()), chosen=current()
    )  # fmt: skip


@router.post("/preferences", dependencies=[Depends(require_form_token)])
def prefer(
    request: Request,
    visitor: Viewer,
    language: Annotated[str, Form(max_length=16)],
    time_zone: Annotated[str, Form(max_length=64)],
) -> Response:
    if language not in LANGUAGES or time_zone not in zones():
        raise HTTPException(400, "unknown language or time zone")
    response = RedirectResponse("/", 303)
    for name, value in ((LANGUAGE_COOKIE, language), (ZONE_COOKIE, time_zone)):
        put_cookie(response, request, name, value, same_site="lax", seconds=_YEAR)
    return response
