"""The API's saved views."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path

from custodes.console.auth.session import Seeing
from custodes.console.middleware.idempotency import OnceOnlyKey
from custodes.console.schema import ProblemOut, ViewIn, ViewOut, ViewsOut
from custodes.console.services import Parts
from custodes.findings.views import View

_Number = Annotated[int, Path(ge=1, le=2**62)]


def add_views(router: APIRouter, parts: Parts) -> None:
    """Adds the routes."""

    @router.get("/views")
    def views(visitor: Seeing) -> ViewsOut:
        """Your own, and those that are shared, by name."""
        return ViewsOut(views=[ViewOut(**view.as_dict()) for view in parts.views.of(visitor.name)])

    @router.post("/views", status_code=201, responses={400: {"model": ProblemOut}}, dependencies=[OnceOnlyKey])
    def save(visitor: Seeing, wanted: ViewIn) -> ViewOut:
        """Keeps a choice of findings under a name."""
        try:
            view = View(by=visitor.name, **(wanted.model_dump() | {"state": wanted.state or ""}))
            number = parts.views.save(view)
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        return ViewOut(**(view.as_dict() | {"number": number}))

    @router.delete("/views/{number}", status_code=204, responses={404: {"model": ProblemOut}})
    def forget(visitor: Seeing, number: _Number) -> None:
        """Lets go of one of your own."""
        try:
            parts.views.forget(visitor.name, number)
        except KeyError as error:
            raise HTTPException(404, f"you have no view {number}") from error
