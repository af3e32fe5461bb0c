"""The Findings page, the page of one finding, and the triage form."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Query, Request, Response
from fastapi.responses import RedirectResponse

from custodes.console.auth.session import Triager, Viewer, require_form_token
from custodes.console.findings.page_view import finding_view
from custodes.console.rendering import page
from custodes.console.services import Provided
from custodes.findings.triage import STATES, VERDICTS, ConflictError, TriageChange
from custodes.rules.model import LEVELS

router = APIRouter(include_in_schema=False)

_ON_A_PAGE = 100
_ACTIONS = ("acknowledge", "close", "reopen", "note", "take", "leave")


@router.get("/findings")
def findings(
    request: Request,
    visitor: Viewer,
    services: Provided,
    state: Annotated[str, Query(pattern="^(open|acknowledged|closed|)$")] = "open",
    level: Annotated[str, Query(pattern="^[a-z]*$", max_length=16)] = "",
    rule: Annotated[str, Query(max_length=200)] = "",
    after: Annotated[str | None, Query(max_length=100)] = None,
) -> Response:
    try:
        found = services.monitor.store.page(
            _ON_A_PAGE, after, state=state or None, level=level or None, rule_id=rule or None
        )  # fmt: skip
    except ValueError as error:
        raise HTTPException(400, str(error)) from error
    return page(
        request, "findings.html",
        findings=found.findings, next=found.next, triages=services.triage.of(one.id for one in found.findings),
        chosen={"state": state, "level": level, "rule": rule}, states=STATES, levels=LEVELS[::-1],
        verdicts=VERDICTS, rules=services.rules, views=services.views.of(visitor.name),
    )  # fmt: skip


@router.get("/findings/{finding_id}")
def finding(request: Request, visitor: Viewer, services: Provided, finding_id: str) -> Response:
    found = services.monitor.store.get(finding_id)
    if found is None:
        return page(request, "missing.html", 404, what="finding")
    view = finding_view(services, found, visitor)
    if view.reveals:
        subject = found.group.get("actor", found.group.get("subject"))
        services.record_access(request, visitor, "read", "finding", subject, f"finding {finding_id}")
    return page(request, "finding.html", view=view, verdicts=VERDICTS)


@router.post("/findings/triage", dependencies=[Depends(require_form_token)])
def triage(
    request: Request,
    visitor: Triager,
    services: Provided,
    finding: Annotated[list[str], Form(max_length=500)],
    action: Annotated[str, Form(pattern=f"^({'|'.join(_ACTIONS)})$")],
    verdict: Annotated[str, Form(max_length=16)] = "",
    note: Annotated[str, Form(max_length=4000)] = "",
    version: Annotated[int | None, Form()] = None,
    back: Annotated[str, Form(max_length=200)] = "/findings",
) -> Response:
    try:
        change = _change(action, verdict, note, version, visitor.name)
        for finding_id in finding:
            services.triage.change(finding_id, change, visitor.name, int(time.time() * 1e6))
            services.record_access(request, visitor, change.action, "finding", finding_id, note or None)
    except KeyError:
        return page(request, "missing.html", 404, what="finding")
    except (ConflictError, ValueError) as error:
        status = 409 if isinstance(error, ConflictError) else 400
        return page(request, "refused.html", status, why=str(error), back=_findings_path(back))
    return RedirectResponse(_findings_path(back), 303)


def _change(action: str, verdict: str, note: str, version: int | None, by: str) -> TriageChange:
    """Converts a form to a change. Raises ``ValueError`` if it is invalid."""
    match action:
        case "acknowledge":
            return TriageChange(state="acknowledged", assignee=by, note=note, version=version)
        case "close":
            chosen = next((one for one in VERDICTS if one == verdict), None)
            if chosen is None:
                raise ValueError("a verdict is required")
            return TriageChange(state="closed", verdict=chosen, note=note, version=version)
        case "reopen":
            return TriageChange(state="open", note=note, version=version)
        case "take":
            return TriageChange(assignee=by, note=note, version=version)
        case "leave":
            return TriageChange(assignee="", note=note, version=version)
        case _:
            return TriageChange(note=note, version=version)


def _findings_path(target: str) -> str:
    return target if target.startswith("/findings") else "/findings"
