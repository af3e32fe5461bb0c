"""API of findings: list, details, triage history and triage."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request

from custodes.console.auth.access import may_see_all_names, may_see_names
from custodes.console.auth.session import Caller, Triager, Viewer
from custodes.console.middleware.idempotency import IdempotencyKey
from custodes.console.schema import (
    ChangeIn,
    FindingOut,
    FindingsOut,
    HistoryOut,
    NoteOut,
    ProblemOut,
    TriageOut,
)
from custodes.console.services import Provided, Services
from custodes.findings import Finding
from custodes.findings.triage import ConflictError, TriageChange, TriageState

router = APIRouter()


@router.get("/findings", response_model_exclude_unset=True, responses={400: {"model": ProblemOut}})
def findings(
    request: Request,
    visitor: Viewer,
    services: Provided,
    limit: Annotated[int, Query(ge=1, le=1000, description="Largest number of findings on a page.")] = 100,
    after: Annotated[str | None, Query(description="`next` of the previous page.")] = None,
    open: Annotated[bool, Query(description="Only ongoing findings.")] = False,
    rule_id: Annotated[str | None, Query(description="Only findings of this rule.")] = None,
    level: Annotated[str | None, Query(description="Only findings of this level.")] = None,
    state: Annotated[TriageState | None, Query(description="Only findings in this triage state.")] = None,
) -> FindingsOut:
    """Findings, newest first."""
    try:
        page = services.monitor.store.page(limit, after, open_only=open, rule_id=rule_id, level=level, state=state)
    except ValueError as error:
        raise HTTPException(400, str(error)) from error
    return FindingsOut(
        findings=[
            FindingOut(**one)
            for one in visible_to(services, request, visitor, page.findings, may_see_all_names(visitor))
        ],
        next=page.next,
    )


@router.get("/findings/{finding_id}", response_model_exclude_unset=True, responses={404: {"model": ProblemOut}})
def finding(request: Request, visitor: Viewer, services: Provided, finding_id: str) -> FindingOut:
    """One finding."""
    found = get_finding(services, finding_id)
    reveals = may_see_names(visitor, found, services.contribution_of)
    return FindingOut(**visible_to(services, request, visitor, [found], reveals)[0])


@router.get("/findings/{finding_id}/history", responses={404: {"model": ProblemOut}})
def history(visitor: Viewer, services: Provided, finding_id: str) -> HistoryOut:
    """Triage history of a finding, oldest first."""
    get_finding(services, finding_id)
    return HistoryOut(notes=[NoteOut(**note.as_dict()) for note in services.triage.history(finding_id)])


@router.post(
    "/findings/{finding_id}/triage",
    responses={400: {"model": ProblemOut}, 404: {"model": ProblemOut}, 409: {"model": ProblemOut}},
    dependencies=[IdempotencyKey],
)
def triage(request: Request, visitor: Triager, services: Provided, finding_id: str, body: ChangeIn) -> TriageOut:
    """Acknowledges, closes, reopens or assigns a finding, or adds a note."""
    try:
        change = TriageChange(**body.model_dump())
        after = services.triage.change(finding_id, change, visitor.name, int(time.time() * 1e6))
    except KeyError as error:
        raise HTTPException(404, f"no finding '{finding_id}'") from error
    except ConflictError as error:
        raise HTTPException(409, str(error)) from error
    except ValueError as error:
        raise HTTPException(400, str(error)) from error
    services.record_access(request, visitor, change.action, "finding", finding_id, change.note or None)
    return TriageOut(**after.as_dict())


def get_finding(services: Services, finding_id: str) -> Finding:
    """Returns a finding by id. Raises 404 if it does not exist."""
    found = services.monitor.store.get(finding_id)
    if found is None:
        raise HTTPException(404, f"no finding '{finding_id}'")
    return found


def visible_to(
    services: Services, request: Request, visitor: Caller, findings: list[Finding], reveals: bool
) -> list[dict[str, Any]]:
    """Returns findings with their triage, with names or pseudonyms; access to names is audited."""
    if reveals:
        if findings and visitor.role is not None:
            services.record_access(request, visitor, "read", "findings", None, f"API, {len(findings)} findings")
        groups = [finding.shown for finding in findings]
    else:
        groups = [services.naming(visitor).group(finding) for finding in findings]
    triages = services.triage.of(finding.id for finding in findings)
    return [
        finding.as_dict() | {"group": group, "triage": triages[finding.id].as_dict()}
        for finding, group in zip(findings, groups, strict=True)
    ]
