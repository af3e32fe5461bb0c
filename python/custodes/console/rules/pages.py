"""The Rules page, and the page of one rule."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from custodes.console.auth.session import Viewer
from custodes.console.jobs.backtests import BacktestResult
from custodes.console.rendering import page
from custodes.console.rules.list_view import rules_view
from custodes.console.services import Provided
from custodes.findings.triage import VERDICTS

router = APIRouter(include_in_schema=False)


@router.get("/rules")
def rules(request: Request, visitor: Viewer, services: Provided) -> Response:
    return page(request, "rules.html", rules=rules_view(services))


@router.get("/rules/{rule_id:path}")
def rule(request: Request, visitor: Viewer, services: Provided, rule_id: str) -> Response:
    line = next((line for line in rules_view(services) if line.rule.id == rule_id), None)
    if line is None:
        return page(request, "missing.html", 404, what="rule")
    past = (
        BacktestResult(None, "no history is kept") if services.backtests is None else services.backtests.of(line.rule)
    )
    answer = page(request, "rule.html", line=line, past=past, verdicts=VERDICTS)
    if past is None:
        answer.headers["Refresh"] = "1"
    return answer
