"""API of the monitor's status, gaps and shortfalls."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from custodes import __version__
from custodes.console.auth.session import Viewer
from custodes.console.schema import GapOut, GapsOut, ShortfallOut, ShortfallsOut, StatusOut, WorkerOut
from custodes.console.services import Provided
from custodes.findings import rfc3339

router = APIRouter()


@router.get("/gaps")
def gaps(
    visitor: Viewer,
    services: Provided,
    limit: Annotated[int, Query(ge=1, le=1000, description="Largest number of gaps listed.")] = 100,
) -> GapsOut:
    """Records that were never read; findings may be missing for them."""
    return GapsOut(gaps=[GapOut(**missed.as_dict()) for missed in services.monitor.store.gaps(limit)])


@router.get("/shortfalls")
def shortfalls(
    visitor: Viewer,
    services: Provided,
    limit: Annotated[int, Query(ge=1, le=1000, description="Largest number of shortfalls listed.")] = 100,
) -> ShortfallsOut:
    """Periods in which the counts or findings of a rule were incomplete."""
    known = services.monitor.store.shortfalls(limit)
    return ShortfallsOut(shortfalls=[ShortfallOut(**shortfall.as_dict()) for shortfall in known])


@router.get("/status")
def status(visitor: Viewer, services: Provided) -> StatusOut:
    """Status of the monitor."""
    now = services.monitor.status
    return StatusOut(
        workers=[WorkerOut.of(*worker) for worker in services.monitor.store.workers()],
        version=__version__,
        source=now.source,
        ready=now.ready,
        finished=now.finished,
        started_at=rfc3339(int(now.started_at * 1e6)) or "",
        events=now.events,
        rejected=now.rejected,
        late=now.late,
        unmatched=now.unmatched,
        no_access=now.no_access,
        events_per_second=round(now.events_per_second, 1),
        lag_records=now.lag_records,
        watermark=rfc3339(now.watermark),
        newest_event=rfc3339(now.newest),
        open_findings=now.open_findings,
        streams=now.streams,
        engine_bytes=now.engine_bytes,
        snapshot_at=None if now.snapshot_at is None else rfc3339(int(now.snapshot_at * 1e6)),
    )
