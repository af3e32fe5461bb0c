"""The HTTP application: routes only; what they show comes from the monitor and the store."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, PackageLoader, select_autoescape
from sse_starlette import EventSourceResponse, ServerSentEvent

from custodes import __version__
from custodes.config import Fault
from custodes.console.schema import (
    FindingOut,
    FindingsOut,
    GapOut,
    GapsOut,
    ProblemOut,
    RiskOut,
    RisksOut,
    ShortfallOut,
    ShortfallsOut,
    StatusOut,
    WorkerOut,
)
from custodes.console.view import Overview, overview
from custodes.findings import rfc3339
from custodes.findings.risk import REACH, risks
from custodes.monitor import Monitor

_HERE = Path(__file__).parent
_HANGS_AFTER = 30.0
"""Seconds without a round of the monitor's loop after which it is unhealthy."""
_REFRESH_SECONDS = 1.0
_LEAST_SECONDS = 0.2
"""Between two renderings for one client: a storm of findings must not become a storm of pages."""
_SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

_pages = Environment(loader=PackageLoader("custodes.console"), autoescape=select_autoescape(), trim_blocks=True)


def build_app(monitor: Monitor, reload: Callable[[], Sequence[Fault]] | None = None) -> FastAPI:
    """The application for one monitor. ``reload`` reads the configuration again and says what is wrong with it."""
    app = FastAPI(
        title="Custodes",
        version=__version__,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # both would load scripts from elsewhere
        redoc_url=None,
    )
    app.mount("/static", StaticFiles(directory=_HERE / "static"), name="static")

    @app.middleware("http")
    async def secure(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await answer(request)
        for name, value in _SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    _add_pages(app, monitor)
    _add_api(app, monitor)
    _add_probes(app, monitor)
    if reload is not None:
        _add_reload(app, reload)
    return app


def _add_pages(app: FastAPI, monitor: Monitor) -> None:
    def render(template: str) -> str:
        view: Overview = overview(monitor)
        return _pages.get_template(template).render(view=view)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> str:
        return render("overview.html")

    @app.get("/live", include_in_schema=False)
    async def live(request: Request) -> EventSourceResponse:
        async def updates() -> AsyncIterator[ServerSentEvent]:
            seen = -1
            while not monitor.feed.closed:
                seen = await monitor.feed.wait(seen, timeout=_REFRESH_SECONDS)
                yield ServerSentEvent(data=await run_in_threadpool(render, "live.html"), event="overview")
                await asyncio.sleep(_LEAST_SECONDS)

        return EventSourceResponse(updates(), headers={"X-Accel-Buffering": "no"})


def _add_api(app: FastAPI, monitor: Monitor) -> None:
    @app.get("/api/v1/findings", response_model_exclude_unset=True, responses={400: {"model": ProblemOut}})
    def findings(
        limit: Annotated[int, Query(ge=1, le=1000, description="Most findings on a page.")] = 100,
        after: Annotated[str | None, Query(description="The `next` of the page before.")] = None,
        open: Annotated[bool, Query(description="Only findings not closed.")] = False,
        rule_id: Annotated[str | None, Query(description="Only this rule's.")] = None,
        level: Annotated[str | None, Query(description="Only this level's.")] = None,
    ) -> FindingsOut:
        """Findings, newest first."""
        try:
            page = monitor.store.page(limit, after, open_only=open, rule_id=rule_id, level=level)
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        return FindingsOut(findings=[FindingOut(**finding.as_dict()) for finding in page.findings], next=page.next)

    @app.get("/api/v1/findings/{finding_id}", response_model_exclude_unset=True, responses={404: {"model": ProblemOut}})
    def finding(finding_id: str) -> FindingOut:
        """One finding."""
        found = monitor.store.get(finding_id)
        if found is None:
            raise HTTPException(404, f"no finding '{finding_id}'")
        return FindingOut(**found.as_dict())

    @app.get("/api/v1/risks")
    def risks_(limit: Annotated[int, Query(ge=1, le=1000, description="Most actors listed.")] = 50) -> RisksOut:
        """Actors by what all their findings come to, points that fade: where to look first."""
        newest = monitor.status.newest
        now = int(time.time() * 1e6) if newest is None else newest
        listed = risks(monitor.store.since(now - REACH), now)[:limit]
        return RisksOut(
            as_of=rfc3339(now) or "",
            risks=[
                RiskOut(
                    actor=risk.actor,
                    score=round(risk.score, 1),
                    findings=[finding.id for finding in risk.findings],
                    rules=risk.rules,
                )
                for risk in listed
            ],
        )

    @app.get("/api/v1/gaps")
    def gaps(limit: Annotated[int, Query(ge=1, le=1000, description="Most gaps listed.")] = 100) -> GapsOut:
        """Records that were never seen: findings may be missing for them."""
        return GapsOut(gaps=[GapOut(**missed.as_dict()) for missed in monitor.store.gaps(limit)])

    @app.get("/api/v1/shortfalls")
    def shortfalls(
        limit: Annotated[int, Query(ge=1, le=1000, description="Most shortfalls listed.")] = 100,
    ) -> ShortfallsOut:
        """When not everything was remembered, or told, and about which rule."""
        known = monitor.store.shortfalls(limit)
        return ShortfallsOut(shortfalls=[ShortfallOut(**shortfall.as_dict()) for shortfall in known])

    @app.get("/api/v1/status")
    def status() -> StatusOut:
        """How the monitor stands."""
        now = monitor.status
        return StatusOut(
            workers=[_worker(*worker) for worker in monitor.store.workers()],
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


def _worker(name: str, seen_at: float, told: str) -> WorkerOut:
    status = json.loads(told)
    seen = rfc3339(int(seen_at * 1e6)) or ""
    known = {field: status[field] for field in WorkerOut.model_fields if field not in ("name", "seen_at")}
    return WorkerOut(name=name, seen_at=seen, **known)


def _add_reload(app: FastAPI, reload: Callable[[], Sequence[Fault]]) -> None:
    @app.post("/-/reload", response_class=PlainTextResponse, include_in_schema=False)
    def reload_() -> Response:
        faults = reload()
        if faults:
            return PlainTextResponse("".join(f"{fault}\n" for fault in faults), 400)
        return PlainTextResponse("reloaded\n")


def _add_probes(app: FastAPI, monitor: Monitor) -> None:
    @app.get("/metrics", response_class=PlainTextResponse, include_in_schema=False)
    def metrics() -> Response:
        return Response(monitor.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/-/healthy", response_class=PlainTextResponse, include_in_schema=False)
    def healthy() -> Response:
        if monitor.failure is not None:
            return PlainTextResponse(f"the monitor failed: {monitor.failure}\n", 503)
        stood = time.monotonic() - monitor.last_poll
        if stood > _HANGS_AFTER and not monitor.status.finished:
            return PlainTextResponse(f"the monitor has not gone round for {stood:.0f} s\n", 503)
        return PlainTextResponse("healthy\n")

    @app.get("/-/ready", response_class=PlainTextResponse, include_in_schema=False)
    def ready() -> Response:
        if not monitor.status.ready:
            return PlainTextResponse("no stream to read yet\n", 503)
        return PlainTextResponse("ready\n")
