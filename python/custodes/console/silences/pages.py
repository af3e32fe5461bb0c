"""The Silences page, and the form that creates a silence from a finding."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import RedirectResponse

from custodes.console.auth.session import Triager, Viewer, require_form_token
from custodes.console.rendering import page
from custodes.console.services import Provided
from custodes.findings.silences import Silence
from custodes.findings.triage import ConflictError, TriageChange

router = APIRouter(include_in_schema=False)

_DAY = 86_400_000_000


@router.get("/silences")
def silences(request: Request, visitor: Viewer, services: Provided) -> Response:
    titles = {rule.id: rule.title for rule in services.rules}
    held = services.silences.all(_now())
    return page(request, "silences.html", silences=held, titles=titles, now=_now())


@router.post("/findings/{finding_id}/silence", dependencies=[Depends(require_form_token)])
def silence(
    request: Request,
    visitor: Triager,
    services: Provided,
    finding_id: str,
    days: Annotated[int, Form(ge=1, le=90)],
    reason: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    found = services.monitor.store.get(finding_id)
    back = f"/findings/{finding_id}"
    if found is None:
        return page(request, "missing.html", 404, what="finding")
    now = _now()
    try:
        one = Silence(found.rule_id, found.group, now, now + days * _DAY, visitor.name, reason)
        number = services.silences.add(one)
        change = TriageChange(state="closed", verdict="explained", note=f"silence {number}: {reason}")
        services.triage.change(finding_id, change, visitor.name, now)
    except (ValueError, ConflictError) as error:
        return page(request, "refused.html", 400, why=str(error), back=back)
    services.record_access(request, visitor, "silence", "finding", finding_id, reason)
    return RedirectResponse(back, 303)


@router.post("/silences/end", dependencies=[Depends(require_form_token)])
def end(
    request: Request, visitor: Triager, services: Provided, number: Annotated[int, Form(ge=1, le=2**62)]
) -> Response:
    try:
        services.silences.end(number, _now())
    except KeyError:
        return page(request, "missing.html", 404, what="silence")
    services.record_access(request, visitor, "unsilence", "finding", str(number), None)
    return RedirectResponse("/silences", 303)


def _now() -> int:
    return int(time.time() * 1e6)
