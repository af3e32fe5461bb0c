"""API of evidence: the events behind a finding, and the signed bundle that proves them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from custodes.console.auth.access import may_see_names
from custodes.console.auth.session import NameViewer
from custodes.console.evidence.exports import NOT_ALL_OF_IT, evidence_bundle
from custodes.console.findings.api import get_finding
from custodes.console.people.schema import PURPOSE, AccessOut
from custodes.console.schema import ProblemOut
from custodes.console.services import Provided

router = APIRouter()

_MISSING: dict[int | str, dict[str, Any]] = {404: {"model": ProblemOut}}
_BINARY = {"type": "string", "format": "binary"}
_MOST_EVENTS = 1000


class PurposeIn(BaseModel):
    """Purpose of an export."""

    model_config = ConfigDict(extra="forbid")

    purpose: str = PURPOSE


class EventsOut(BaseModel):
    """The events behind a finding, including those before it opened."""

    events: list[AccessOut] = Field(description="Newest first; at most 1,000.")
    count: int = Field(description="Number of events of resources in your access.")
    is_whole: bool = Field(description="Whether the history contains all events of the finding.")
    kept_back: int = Field(
        description="Number of events that are not listed, because their resources are outside your access."
    )


@router.get("/findings/{finding_id}/events", responses=_MISSING)
def events(request: Request, visitor: NameViewer, services: Provided, finding_id: str) -> EventsOut:
    """The events behind a finding, with names, from the history."""
    found = get_finding(services, finding_id)
    contribution = services.contribution_of(found)
    if contribution is None:
        raise HTTPException(404, "no history is kept, or the rule is no longer active")
    if not may_see_names(visitor, found, lambda _: contribution):
        raise HTTPException(403, "the resources of the finding are outside your access")
    services.record_access(
        request, visitor, "read", "finding", found.group.get("actor"), f"API, events of {finding_id}"
    )
    seen = contribution.within(visitor.reach.covers)
    return EventsOut(
        events=[AccessOut.of(one.access) for one in seen.events[: -_MOST_EVENTS - 1 : -1]],
        count=len(seen.events),
        is_whole=contribution.is_whole,
        kept_back=len(contribution.events) - len(seen.events),
    )


@router.post(
    "/findings/{finding_id}/evidence",
    response_class=Response,
    responses={
        **_MISSING,
        200: {"content": {"application/zip": {"schema": _BINARY}}},
    },
)
def evidence(request: Request, visitor: NameViewer, services: Provided, finding_id: str, body: PurposeIn) -> Response:
    """The evidence of a finding, in one file that `custodes evidence verify` checks on any machine."""
    bundle = evidence_bundle(services, request, visitor, get_finding(services, finding_id), body.purpose)
    if bundle is None:
        raise HTTPException(403, NOT_ALL_OF_IT)
    return Response(bundle, media_type="application/zip")
