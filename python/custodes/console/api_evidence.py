"""The API's evidence: the events behind a finding, and what proves them."""

from __future__ import annotations

import io
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from custodes.console.need_to_know import sees_all_of_it, sees_who
from custodes.console.parts import Parts
from custodes.console.people_schema import PURPOSE, AccessOut
from custodes.console.schema import ProblemOut
from custodes.console.visitors import Revealing
from custodes.evidence.bundle import export
from custodes.findings import Finding

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


def add_evidence(router: APIRouter, parts: Parts) -> None:
    """Adds the routes."""

    @router.get("/findings/{finding_id}/events", responses=_MISSING)
    def events(request: Request, visitor: Revealing, finding_id: str) -> EventsOut:
        """The events behind a finding, with names: found again in the history."""
        found = _finding(parts, finding_id)
        behind = parts.behind.of(found) if parts.behind else None
        if behind is None:
            raise HTTPException(404, "no history is kept, or the rule is not in force any more")
        if not sees_who(visitor, found, behind):
            raise HTTPException(403, "it is about none of the resources that you may look into")
        parts.note_look(request, visitor, "read", "finding", found.group.get("actor"), f"API, events of {finding_id}")
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
            200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}},
        },
    )
    def evidence(request: Request, visitor: Revealing, finding_id: str, wanted: PurposeIn) -> Response:
        """All that proves a finding, in one file that can be checked anywhere (`custodes evidence verify`)."""
        found = _finding(parts, finding_id)
        if parts.vault is None:
            raise HTTPException(404, "no evidence is kept")
        behind = parts.behind.of(found) if parts.behind else None
        if not sees_all_of_it(visitor, found, behind, parts.vault.about(finding_id)):
            raise HTTPException(403, "there are events of resources among it that you may not look into")
        parts.note_look(request, visitor, "export", "evidence", found.group.get("actor", finding_id), wanted.purpose)
        bundle = io.BytesIO()
        try:
            export(parts.vault.log, finding_id, bundle)
        except ValueError as error:
            raise HTTPException(404, str(error)) from error
        return Response(bundle.getvalue(), media_type="application/zip")


def _finding(parts: Parts, finding_id: str) -> Finding:
    found = parts.monitor.store.get(finding_id)
    if found is None:
        raise HTTPException(404, f"no finding '{finding_id}'")
    return found
