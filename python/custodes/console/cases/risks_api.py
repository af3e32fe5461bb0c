"""API of risks: actors, highest risk first."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Query, Request

from custodes.console.auth.access import may_see_all_names
from custodes.console.auth.session import Viewer
from custodes.console.schema import RiskOut, RisksOut
from custodes.console.services import Provided
from custodes.findings import rfc3339
from custodes.findings.risk import REACH, risks

router = APIRouter()


@router.get("/risks")
def risks_(
    request: Request,
    visitor: Viewer,
    services: Provided,
    limit: Annotated[int, Query(ge=1, le=1000, description="Largest number of actors listed.")] = 50,
) -> RisksOut:
    """Actors by risk score, which adds up their findings and decays over time. It is a triage order."""
    newest = services.monitor.status.newest
    now = int(time.time() * 1e6) if newest is None else newest
    listed = risks(services.monitor.store.since(now - REACH), now)[:limit]
    may_know = may_see_all_names(visitor)
    if may_know and listed and visitor.role is not None:
        services.record_access(request, visitor, "read", "risks", None, f"API, {len(listed)} actors")
    return RisksOut(
        as_of=rfc3339(now) or "",
        risks=[
            RiskOut(
                actor=risk.actor if may_know else services.naming(visitor).pseudonym("actor", risk.actor),
                score=round(risk.score, 1),
                findings=[finding.id for finding in risk.findings],
                rules=risk.rules,
            )
            for risk in listed
        ],
    )
