"""The API's cases and risks: actors, ordered by the risk of their findings."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from custodes.console.auth.access import sees_every_name
from custodes.console.auth.session import Viewer
from custodes.console.cases.view import cases_view
from custodes.console.services import Provided

router = APIRouter()


class CaseOut(BaseModel):
    """One actor's findings that nobody has closed."""

    actor: str = Field(description="A pseudonym for those who may not know.")
    score: float
    findings: list[str] = Field(description="Ids, the latest first; twenty at most.")
    count: int


class CasesOut(BaseModel):
    """Cases, the highest risk first."""

    cases: list[CaseOut]
    count: int = Field(description="How many there are, those left out included.")


@router.get("/cases")
def cases(request: Request, visitor: Viewer, services: Provided) -> CasesOut:
    """Findings that nobody has closed, person by person."""
    view, naming, plain = cases_view(services), services.naming(visitor), sees_every_name(visitor)
    if plain and view.cases and visitor.role is not None:
        services.note_look(request, visitor, "read", "cases", None, f"API, {len(view.cases)} cases")
    told = [
        CaseOut(
            actor=case.actor if plain else naming.pseudonym("actor", case.actor),
            score=round(case.score, 1),
            findings=[finding.id for finding in case.findings],
            count=case.count,
        )
        for case in view.cases
    ]
    return CasesOut(cases=told, count=view.count)
