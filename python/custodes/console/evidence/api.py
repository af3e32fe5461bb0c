"""The API's evidence: the events behind a finding, and what proves them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from custodes.console.auth.access import sees_who
from custodes.console.auth.session import NameViewer
from custodes.console.evidence.exports import NOT_ALL_OF_IT, proof_of
from custodes.console.findings.api import finding_called
from custodes.console.people.schema import PURPOSE, AccessOut
from custodes.console.schema import ProblemOut
from custodes.console.services import Provided

router = APIRouter()

_MISSING: dict[int | str, dict[str, Any]] = {404: {"model": ProblemOut}}
_BINARY = {"type": "string", "format": "binary"}
_MOST_EVENTS = 1000


class PurposeIn(BaseModel):
    """Why evidence is wanted."""

    model_config = ConfigDict(extra="forbid")

    purpose: str = PURPOSE


class EventsOut(BaseModel):
    """The events behind a finding, those before it opened included."""

    events: list[AccessOut] = Field(description="The latest first; a thousand at most.")
    count: int = Field(description="How many there are, of the resources that you may look into.")
    is_whole: bool = Field(description="Whether the history has all of them.")
    kept_back: int = Field(description="How many are of other resources, and left out.")


@router.get("/findings/{finding_id}/events", responses=_MISSING)
def events(request: Request, visitor: NameViewer, services: Provided, finding_id: str) -> EventsOut:
    """The events behind a finding, with names: found again in the history."""
    found = finding_called(services, finding_id)
    behind = services.events_behind(found)
    if behind is None:
        raise HTTPException(404, "no history is kept, or the rule is not in force any more")
    if not sees_who(visitor, found, lambda _: behind):
        raise HTTPException(403, "it is about none of the resources that you may look into")
    services.note_look(request, visitor, "read", "finding", found.group.get("actor"), f"API, events of {finding_id}")
    seen = behind.within(visitor.reach.covers)
    return EventsOut(
        events=[AccessOut.of(one.access) for one in seen.events[: -_MOST_EVENTS - 1 : -1]],
        count=len(seen.events),
        is_whole=behind.is_whole,
        kept_back=len(behind.events) - len(seen.events),
    )


@router.post(
    "/findings/{finding_id}/evidence",
    response_class=Response,
    responses={
        **_MISSING,
        200: {"content": {"application/zip": {"schema": _BINARY}}},
    },
)
def evidence(request: Request, visitor: NameViewer, services: Provided, finding_id: str, wanted: PurposeIn) -> Response:
    """All that proves a finding, in one file that can be checked anywhere (`custodes evidence verify`)."""
    bundle = proof_of(services, request, visitor, finding_called(services, finding_id), wanted.purpose)
    if bundle is None:
        raise HTTPException(403, NOT_ALL_OF_IT)
    return Response(bundle, media_type="application/zip")
