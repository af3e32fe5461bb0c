"""The JSON API under ``/api/v1``, with the data of the console pages."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from custodes.console.audit import api as audit
from custodes.console.cases import api as cases
from custodes.console.cases import risks_api as risks
from custodes.console.evidence import api as evidence
from custodes.console.findings import api as findings
from custodes.console.findings import exports_api as exports
from custodes.console.findings import saved_views_api as saved_views
from custodes.console.people import api as people
from custodes.console.rules import api as rules
from custodes.console.schema import ProblemOut
from custodes.console.silences import api as silences
from custodes.console.system import api as system

_REFUSED: dict[int | str, dict[str, Any]] = {status: {"model": ProblemOut} for status in (401, 403, 429)}

router = APIRouter(prefix="/api/v1", responses=_REFUSED)
for part in (findings, exports, silences, saved_views, people, evidence, rules, cases, audit, risks, system):
    router.include_router(part.router)
