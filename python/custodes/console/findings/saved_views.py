"""The findings page's saved views: kept, and let go of."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, FastAPI, Form, Request, Response
from fastapi.responses import RedirectResponse

from custodes.console.auth.session import Seeing, from_our_form
from custodes.console.rendering import page
from custodes.console.services import Parts
from custodes.findings.views import MOST_NAME, View


def add_saved_views(app: FastAPI, parts: Parts) -> None:
    """Adds the routes."""

    @app.post("/views", include_in_schema=False, dependencies=[Depends(from_our_form)])
    def save(
        request: Request,
        visitor: Seeing,
        name: Annotated[str, Form(max_length=MOST_NAME)] = "",
        state: Annotated[str, Form(pattern="^(open|acknowledged|closed|)$")] = "",
        level: Annotated[str, Form(pattern="^[a-z]*$", max_length=16)] = "",
        rule: Annotated[str, Form(max_length=200)] = "",
        is_shared: Annotated[bool, Form()] = False,
    ) -> Response:
        try:
            view = View(name, visitor.name, state, level, rule, is_shared)
            parts.views.save(view)
        except ValueError as error:
            return page(request, parts, "refused.html", 400, why=str(error), back="/findings")
        return RedirectResponse(f"/findings?{view.query}", 303)

    @app.post("/views/forget", include_in_schema=False, dependencies=[Depends(from_our_form)])
    def forget(request: Request, visitor: Seeing, number: Annotated[int, Form(ge=1, le=2**62)]) -> Response:
        try:
            parts.views.forget(visitor.name, number)
        except KeyError:
            return page(request, parts, "missing.html", 404, what="view")
        return RedirectResponse("/findings", 303)
