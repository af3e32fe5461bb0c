"""API of saved views."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path

from custodes.console.auth.session import Viewer
from custodes.console.middleware.idempotency import IdempotencyKey
from custodes.console.schema import ProblemOut, ViewIn, ViewOut, ViewsOut
from custodes.console.services import Provided
from custodes.findings.views import SavedView

router = APIRouter()

_ViewNumber = Annotated[int, Path(ge=1, le=2**62)]


@router.get("/views")
def views(visitor: Viewer, services: Provided) -> ViewsOut:
    """Your own and all shared views, sorted by name."""
    return ViewsOut(views=[ViewOut(**view.as_dict()) for view in services.views.of(visitor.name)])


@router.post("/views", status_code=201, responses={400: {"model": ProblemOut}}, dependencies=[IdempotencyKey])
def save(visitor: Viewer, services: Provided, body: ViewIn) -> ViewOut:
    """Saves filters of the findings list under a name."""
    try:
        view = SavedView(by=visitor.name, **(body.model_dump() | {"state": body.state or ""}))
        number = services.views.save(view)
    except ValueError as error:
        raise HTTPException(400, str(error)) from error
    return ViewOut(**(view.as_dict() | {"number": number}))


@router.delete("/views/{number}", status_code=204, responses={404: {"model": ProblemOut}})
def forget(visitor: Viewer, services: Provided, number: _ViewNumber) -> None:
    """Deletes one of your own views."""
    try:
        services.views.forget(visitor.name, number)
    except KeyError as error:
        raise HTTPException(404, f"you have no view {number}") from error
