"""The API: what the console shows, for programs. Names are in it for those who may know them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from custodes import __version__
from custodes.console.api_account import add_account
from custodes.console.auth.session import Seeing
from custodes.console.evidence.api import add_evidence
from custodes.console.findings.api import add_exports, add_findings, add_risks
from custodes.console.findings.saved_views_api import add_views
from custodes.console.people.api import add_people_api
from custodes.console.schema import (
    GapOut,
    GapsOut,
    ProblemOut,
    ShortfallOut,
    ShortfallsOut,
    StatusOut,
    WorkerOut,
)
from custodes.console.services import Parts
from custodes.console.silences.api import add_silences
from custodes.findings import rfc3339


def api(parts: Parts) -> APIRouter:
    """The routes under ``/api/v1``."""
    refused: dict[int | str, dict[str, Any]] = {status: {"model": ProblemOut} for status in (401, 403, 429)}
    router = APIRouter(prefix="/api/v1", responses=refused)
    add_findings(router, parts)
    add_exports(router, parts)
    add_silences(router, parts)
    add_views(router, parts)
    add_people_api(router, parts)
    add_evidence(router, parts)
    add_account(router, parts)
    add_risks(router, parts)
    _add_status(router, parts)
    return router


def _add_status(router: APIRouter, parts: Parts) -> None:
    """How the monitor stands, and where findings fall short."""

    @router.get("/gaps")
    def gaps(
        visitor: Seeing, limit: Annotated[int, Query(ge=1, le=1000, description="Most gaps listed.")] = 100
    ) -> GapsOut:
        """Records that were never seen: findings may be missing for them."""
        return GapsOut(gaps=[GapOut(**missed.as_dict()) for missed in parts.monitor.store.gaps(limit)])

    @router.get("/shortfalls")
    def shortfalls(
        visitor: Seeing,
        limit: Annotated[int, Query(ge=1, le=1000, description="Most shortfalls listed.")] = 100,
    ) -> ShortfallsOut:
        """When not everything was remembered, or told, and about which rule."""
        known = parts.monitor.store.shortfalls(limit)
        return ShortfallsOut(shortfalls=[ShortfallOut(**shortfall.as_dict()) for shortfall in known])

    @router.get("/status")
    def status(visitor: Seeing) -> StatusOut:
        """How the monitor stands."""
        now = parts.monitor.status
        return StatusOut(
            workers=[WorkerOut.of(*worker) for worker in parts.monitor.store.workers()],
            version=__version__,
            source=now.source,
            ready=now.ready,
            finished=now.finished,
            started_at=rfc3339(int(now.started_at * 1e6)) or "",
            events=now.events,
            rejected=now.rejected,
            late=now.late,
            events_per_second=round(now.events_per_second, 1),
            lag_records=now.lag_records,
            watermark=rfc3339(now.watermark),
            newest_event=rfc3339(now.newest),
            open_findings=now.open_findings,
            streams=now.streams,
            engine_bytes=now.engine_bytes,
            snapshot_at=None if now.snapshot_at is None else rfc3339(int(now.snapshot_at * 1e6)),
        )
