"""The Cases page."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from custodes.console.auth.session import Viewer
from custodes.console.cases.view import cases_view
from custodes.console.rendering import page
from custodes.console.services import Provided
from custodes.findings.triage import VERDICTS

router = APIRouter(include_in_schema=False)


@router.get("/findings/cases")
def cases(request: Request, visitor: Viewer, services: Provided) -> Response:
    view = cases_view(services)
    triages = services.triage.of(one.id for case in view.cases for one in case.findings)
    return page(request, "cases.html", view=view, triages=triages, verdicts=VERDICTS)
