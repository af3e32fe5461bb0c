"""Forms that save and delete views of the Findings page."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import RedirectResponse

from custodes.console.auth.session import Viewer, require_form_token
from custodes.console.rendering import page
from custodes.console.services import Provided
from custodes.findings.views import MOST_NAME, SavedView

router = APIRouter(include_in_schema=False)


@router.post("/views", dependencies=[Depends(require_form_token)])
def save(
    request: Request,
    visitor: Viewer,
    services: Provided,
    name: Annotated[str, Form(max_length=MOST_NAME)] = "",
    state: Annotated[str, Form(pattern="^(open|acknowledged|closed|)$")] = "",
    level: Annotated[str, Form(pattern="^[a-z]*$", max_length=16)] = "",
    rule: Annotated[str, Form(max_length=200)] = "",
    is_shared: Annotated[bool, Form()] = False,
) -> Response:
    try:
        view = SavedView(name, visitor.name, state, level, rule, is_shared)
        services.views.save(view)
    except ValueError as error:
        return page(request, "refused.html", 400, why=str(error), back="/findings")
    return RedirectResponse(f"/findings?{view.query}", 303)


@router.post("/views/forget", dependencies=[Depends(require_form_token)])
def forget(
    request: Request, visitor: Viewer, services: Provided, number: Annotated[int, Form(ge=1, le=2**62)]
) -> Response:
    try:
        services.views.forget(visitor.name, number)
    except KeyError:
        return page(request, "missing.html", 404, what="view")
    return RedirectResponse("/findings", 303)
