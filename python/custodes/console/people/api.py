"""API of people: an actor or a subject, for a stated purpose, and search by name.

Names are in the request body, never in the URL, which proxies log. The audit entry is written before the response.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse

from custodes.console.auth.access import is_in_scope
from custodes.console.auth.session import Caller, NameViewer
from custodes.console.csv_rows import csv_row
from custodes.console.people.disclosures import disclosure_rows
from custodes.console.people.person_view import person_view
from custodes.console.people.schema import AroundOut, LookIn, PersonOut, SearchIn, SearchOut, SubjectIn
from custodes.console.schema import ProblemOut
from custodes.console.services import Provided, Services

router = APIRouter()

_PROBLEMS: dict[int | str, dict[str, Any]] = {400: {"model": ProblemOut}, 404: {"model": ProblemOut}}
_NO_HISTORY = "no history is kept"


@router.post("/people/look", responses=_PROBLEMS)
def look(request: Request, visitor: NameViewer, services: Provided, body: LookIn) -> PersonOut:
    """Profile, latest look-ups and findings of an actor or a subject."""
    _must_be_within(services, visitor, body.kind, body.name)
    try:
        view = person_view(services, body.kind, body.name, body.after, visitor.reach)
    except ValueError as error:
        raise HTTPException(400, str(error)) from error
    services.record_access(request, visitor, "read", body.kind, body.name, body.purpose)
    return PersonOut.of(view)


@router.post("/people/around", response_model=AroundOut, responses={**_PROBLEMS, 202: {"model": ProblemOut}})
def around(request: Request, visitor: NameViewer, services: Provided, body: SubjectIn) -> AroundOut | JSONResponse:
    """An actor's peer comparison and shared records. They are computed from the whole history: 202 until they are
    ready; then repeat the request."""
    _must_be_within(services, visitor, "actor", body.name)
    if services.surroundings is None:
        raise HTTPException(404, _NO_HISTORY)
    view = services.surroundings.of(body.name, visitor.reach, services.monitor.status.newest)
    if view is None:
        return JSONResponse({"detail": "the result is being computed: repeat the request"}, 202, {"Retry-After": "1"})
    services.record_access(request, visitor, "read", "actor", body.name, body.purpose)
    return AroundOut.of(view)


@router.post("/people/search")
def search(request: Request, visitor: NameViewer, services: Provided, body: SearchIn) -> SearchOut:
    """Finds actors by the start of their name, and subjects by their full name."""
    services.record_access(request, visitor, "search", "people", body.wanted, None)
    if services.history is None:
        return SearchOut(actors=[], is_subject=False)
    within = visitor.reach.patterns
    return SearchOut(
        actors=services.history.actors(body.wanted, within=within),
        is_subject=services.history.knows("subject", body.wanted, within),
    )


@router.post(
    "/people/disclosures",
    response_class=StreamingResponse,
    responses={**_PROBLEMS, 200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
def disclosures(request: Request, visitor: NameViewer, services: Provided, body: SubjectIn) -> StreamingResponse:
    """The account of disclosures of a subject, for the person concerned, as CSV. No cell is read as a formula."""
    if not visitor.reach.is_everything:
        raise HTTPException(403, "your access covers only some resources, and the account must be complete")
    if services.history is None:
        raise HTTPException(404, _NO_HISTORY)
    services.record_access(request, visitor, "export", "subject", body.name, body.purpose)
    return StreamingResponse(_rows(disclosure_rows(services.history, body.name)), media_type="text/csv")


def _must_be_within(services: Services, visitor: Caller, kind: str, name: str) -> None:
    """Raises 404 if a person has no events in the visitor's scope, as for an unknown person."""
    if not is_in_scope(services.history, visitor, kind, name):
        raise HTTPException(404, f"no {kind} with this name has events in your access")


def _rows(rows: Iterator[tuple[str | None, ...]]) -> Iterator[str]:
    return map(csv_row, rows)
