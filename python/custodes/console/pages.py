"""The pages about findings, rules and the audit trail."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import Depends, FastAPI, Form, HTTPException, Query, Request, Response
from fastapi.responses import RedirectResponse
from sse_starlette import EventSourceResponse

from custodes.console.auth.session import Auditing, Seeing, Triaging, from_our_form
from custodes.console.cases.view import cases_view
from custodes.console.findings.page_view import finding_view
from custodes.console.jobs.backtests import Past
from custodes.console.overview.live import LiveOverview
from custodes.console.overview.view import overview
from custodes.console.rendering import page
from custodes.console.rules.list_view import rules_view
from custodes.console.services import Parts
from custodes.console.system.view import system_view
from custodes.findings.triage import STATES, VERDICTS, Change, ConflictError
from custodes.rules.model import LEVELS

_ON_A_PAGE = 100
_ACTIONS = ("acknowledge", "close", "reopen", "note", "take", "leave")


def add_pages(app: FastAPI, parts: Parts) -> None:
    """Adds the routes."""
    monitor = parts.monitor
    watched = LiveOverview(parts)

    @app.get("/", include_in_schema=False)
    def first(request: Request, visitor: Seeing) -> Response:
        return page(request, parts, "overview.html", view=overview(parts))

    @app.get("/live", include_in_schema=False)
    async def live(request: Request, visitor: Seeing) -> EventSourceResponse:
        return EventSourceResponse(watched.updates(parts.naming(visitor)), headers={"X-Accel-Buffering": "no"})

    @app.get("/findings", include_in_schema=False)
    def findings(
        request: Request,
        visitor: Seeing,
        state: Annotated[str, Query(pattern="^(open|acknowledged|closed|)$")] = "open",
        level: Annotated[str, Query(pattern="^[a-z]*$", max_length=16)] = "",
        rule: Annotated[str, Query(max_length=200)] = "",
        after: Annotated[str | None, Query(max_length=100)] = None,
    ) -> Response:
        try:
            found = monitor.store.page(
                _ON_A_PAGE, after, state=state or None, level=level or None, rule_id=rule or None
            )  # fmt: skip
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        return page(
            request, parts, "findings.html",
            findings=found.findings, next=found.next, stands=parts.triage.of(one.id for one in found.findings),
            chosen={"state": state, "level": level, "rule": rule}, states=STATES, levels=LEVELS[::-1],
            verdicts=VERDICTS, rules=parts.rules, views=parts.views.of(visitor.name),
        )  # fmt: skip

    @app.get("/findings/cases", include_in_schema=False)
    def cases(request: Request, visitor: Seeing) -> Response:
        view = cases_view(parts)
        stands = parts.triage.of(one.id for case in view.cases for one in case.findings)
        return page(request, parts, "cases.html", view=view, stands=stands, verdicts=VERDICTS)

    @app.get("/findings/{finding_id}", include_in_schema=False)
    def finding(request: Request, visitor: Seeing, finding_id: str) -> Response:
        found = monitor.store.get(finding_id)
        if found is None:
            return page(request, parts, "missing.html", 404, what="finding")
        view = finding_view(parts, found, visitor)
        if view.reveals:
            subject = found.group.get("actor", found.group.get("subject"))
            parts.note_look(request, visitor, "read", "finding", subject, f"finding {finding_id}")
        return page(request, parts, "finding.html", view=view, verdicts=VERDICTS)

    @app.post("/findings/triage", include_in_schema=False, dependencies=[Depends(from_our_form)])
    def triage(
        request: Request,
        visitor: Triaging,
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
                parts.triage.change(finding_id, change, visitor.name, int(time.time() * 1e6))
                parts.note_look(request, visitor, change.action, "finding", finding_id, note or None)
        except KeyError:
            return page(request, parts, "missing.html", 404, what="finding")
        except (ConflictError, ValueError) as error:
            status = 409 if isinstance(error, ConflictError) else 400
            return page(request, parts, "refused.html", status, why=str(error), back=_ours(back))
        return RedirectResponse(_ours(back), 303)

    @app.get("/rules", include_in_schema=False)
    def rules(request: Request, visitor: Seeing) -> Response:
        return page(request, parts, "rules.html", rules=rules_view(parts))

    @app.get("/rules/{rule_id:path}", include_in_schema=False)
    def rule(request: Request, visitor: Seeing, rule_id: str) -> Response:
        line = next((line for line in rules_view(parts) if line.rule.id == rule_id), None)
        if line is None:
            return page(request, parts, "missing.html", 404, what="rule")
        past = Past(None, "no history is kept") if parts.backtests is None else parts.backtests.of(line.rule)
        answer = page(request, parts, "rule.html", line=line, past=past, verdicts=VERDICTS)
        if past is None:
            answer.headers["Refresh"] = "1"
        return answer

    @app.get("/system", include_in_schema=False)
    def system(request: Request, visitor: Seeing) -> Response:
        return page(request, parts, "system.html", view=system_view(parts))

    @app.get("/audit", include_in_schema=False)
    def audit(
        request: Request,
        visitor: Auditing,
        account: Annotated[str, Query(max_length=64)] = "",
        before: Annotated[int | None, Query(ge=0, le=2**62)] = None,
    ) -> Response:
        having = {"account": account} if account else {}
        looks, following = parts.audit.page(_ON_A_PAGE, before, having)
        return page(request, parts, "audit.html", looks=looks, following=following, account=account)


def _change(action: str, verdict: str, note: str, version: int | None, by: str) -> Change:
    """What a form asks for. Raises ``ValueError``."""
    match action:
        case "acknowledge":
            return Change(state="acknowledged", assignee=by, note=note, version=version)
        case "close":
            chosen = next((one for one in VERDICTS if one == verdict), None)
            if chosen is None:
                raise ValueError("choose how it turned out")
            return Change(state="closed", verdict=chosen, note=note, version=version)
        case "reopen":
            return Change(state="open", note=note, version=version)
        case "take":
            return Change(assignee=by, note=note, version=version)
        case "leave":
            return Change(assignee="", note=note, version=version)
        case _:
            return Change(note=note, version=version)


def _ours(target: str) -> str:
    return target if target.startswith("/findings") else "/findings"
