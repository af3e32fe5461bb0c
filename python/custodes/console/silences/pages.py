"""The page of silences, and the way to one from a finding."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import Depends, FastAPI, Form, Request, Response
from fastapi.responses import RedirectResponse

from custodes.console.auth.session import Seeing, Triaging, from_our_form
from custodes.console.rendering import page
from custodes.console.services import Parts
from custodes.findings.silences import Silence
from custodes.findings.triage import Change, ConflictError

_DAY = 86_400_000_000


def add_silencing(app: FastAPI, parts: Parts) -> None:
    """Adds the routes."""

    @app.get("/silences", include_in_schema=False)
    def silences(request: Request, visitor: Seeing) -> Response:
        titles = {rule.id: rule.title for rule in parts.rules}
        held = parts.silences.all(_now())
        return page(request, parts, "silences.html", silences=held, titles=titles, now=_now())

    @app.post("/findings/{finding_id}/silence", include_in_schema=False, dependencies=[Depends(from_our_form)])
    def silence(
        request: Request,
        visitor: Triaging,
        finding_id: str,
        days: Annotated[int, Form(ge=1, le=90)],
        reason: Annotated[str, Form(max_length=500)] = "",
    ) -> Response:
        found = parts.monitor.store.get(finding_id)
        back = f"/findings/{finding_id}"
        if found is None:
            return page(request, parts, "missing.html", 404, what="finding")
        now = _now()
        try:
            one = Silence(found.rule_id, found.group, now, now + days * _DAY, visitor.name, reason)
            number = parts.silences.add(one)
            change = Change(state="closed", verdict="explained", note=f"silence {number}: {reason}")
            parts.triage.change(finding_id, change, visitor.name, now)
        except (ValueError, ConflictError) as error:
            return page(request, parts, "refused.html", 400, why=str(error), back=back)
        parts.note_look(request, visitor, "silence", "finding", finding_id, reason)
        return RedirectResponse(back, 303)

    @app.post("/silences/end", include_in_schema=False, dependencies=[Depends(from_our_form)])
    def end(request: Request, visitor: Triaging, number: Annotated[int, Form(ge=1, le=2**62)]) -> Response:
        try:
            parts.silences.end(number, _now())
        except KeyError:
            return page(request, parts, "missing.html", 404, what="silence")
        parts.note_look(request, visitor, "unsilence", "finding", str(number), None)
        return RedirectResponse("/silences", 303)


def _now() -> int:
    return int(time.time() * 1e6)
