"""API of cases: actors with open findings, highest risk first."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from custodes.console.auth.access import may_see_all_names
from custodes.console.auth.session import Viewer
from custodes.console.cases.view import cases_view
from custodes.console.services import Provided

router = APIRouter()


class CaseOut(BaseModel):
    """An actor's findings that are not closed."""

    actor: str = Field(description="A pseudonym for callers without access to names.")
    score: float
    findings: list[str] = Field(description="Ids, newest first; at most 20.")
    count: int


class CasesOut(BaseModel):
    """Cases, highest risk first."""

    cases: list[CaseOut]
    count: int = Field(description="Number of all cases, including those that are not listed.")


@router.get("/cases")
def cases(request: Request, visitor: Viewer, services: Provided) -> CasesOut:
    """Findings that are not closed, grouped by actor."""
    view, naming, plain = cases_view(services), services.naming(visitor), may_see_all_names(visitor)
    if plain and view.cases and visitor.role is not None:
        services.record_access(request, visitor, "read", "cases", None, f"API, {len(view.cases)} cases")
    listed = [
        CaseOut(
            actor=case.actor if plain else naming.pseudonym("actor", case.actor),
            score=round(case.score, 1),
            findings=[finding.id for finding in case.findings],
            count=case.count,
        )
        for case in view.cases
    ]
    return CasesOut(cases=listed, count=view.count)
