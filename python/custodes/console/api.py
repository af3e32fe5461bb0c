"""The API: what the console shows, for programs. Names are in it for those who may know them."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request

from custodes import __version__
from custodes.accounts.roles import Permission
from custodes.console.parts import Parts
from custodes.console.schema import (
    ChangeIn,
    FindingOut,
    FindingsOut,
    GapOut,
    GapsOut,
    HistoryOut,
    NoteOut,
    ProblemOut,
    RiskOut,
    RisksOut,
    ShortfallOut,
    ShortfallsOut,
    StatusOut,
    TriageOut,
    WorkerOut,
)
from custodes.console.visitors import Seeing, Triaging, Visitor
from custodes.findings import Finding, rfc3339
from custodes.findings.risk import REACH, risks
from custodes.findings.triage import Change, ConflictError, State


def api(parts: Parts) -> APIRouter:
    """The routes under ``/api/v1``."""
    refused: dict[int | str, dict[str, Any]] = {401: {"model": ProblemOut}, 403: {"model": ProblemOut}}
    router = APIRouter(prefix="/api/v1", responses=refused)
    _add_findings(router, parts)
    _add_account(router, parts)
    return router


def _add_findings(router: APIRouter, parts: Parts) -> None:
    def told(request: Request, visitor: Visitor, findings: list[Finding]) -> list[dict[str, Any]]:
        """Findings as this visitor may see them, with how they stand; names seen are put down."""
        if visitor.may(Permission.REVEAL):
            if findings and visitor.role is not None:
                parts.note_look(request, visitor, "read", "findings", None, f"API, {len(findings)} findings")
            groups = [finding.group for finding in findings]
        else:
            groups = [parts.naming(visitor).group(finding) for finding in findings]
        stands = parts.triage.of(finding.id for finding in findings)
        return [
            finding.as_dict() | {"group": group, "triage": stands[finding.id].as_dict()}
            for finding, group in zip(findings, groups, strict=True)
        ]

    @router.get("/findings", response_model_exclude_unset=True, responses={400: {"model": ProblemOut}})
    def findings(
        request: Request,
        visitor: Seeing,
        limit: Annotated[int, Query(ge=1, le=1000, description="Most findings on a page.")] = 100,
        after: Annotated[str | None, Query(description="The `next` of the page before.")] = None,
        open: Annotated[bool, Query(description="Only findings not closed.")] = False,
        rule_id: Annotated[str | None, Query(description="Only this rule's.")] = None,
        level: Annotated[str | None, Query(description="Only this level's.")] = None,
        state: Annotated[State | None, Query(description="Only what people made this of.")] = None,
    ) -> FindingsOut:
        """Findings, newest first."""
        try:
            page = parts.monitor.store.page(limit, after, open_only=open, rule_id=rule_id, level=level, state=state)
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        return FindingsOut(
            findings=[FindingOut(**one) for one in told(request, visitor, page.findings)], next=page.next
        )

    @router.get("/findings/{finding_id}", response_model_exclude_unset=True, responses={404: {"model": ProblemOut}})
    def finding(request: Request, visitor: Seeing, finding_id: str) -> FindingOut:
        """One finding."""
        found = parts.monitor.store.get(finding_id)
        if found is None:
            raise HTTPException(404, f"no finding '{finding_id}'")
        return FindingOut(**told(request, visitor, [found])[0])

    @router.get("/findings/{finding_id}/history", responses={404: {"model": ProblemOut}})
    def history(visitor: Seeing, finding_id: str) -> HistoryOut:
        """What people made of a finding, the earliest first."""
        if parts.monitor.store.get(finding_id) is None:
            raise HTTPException(404, f"no finding '{finding_id}'")
        return HistoryOut(notes=[NoteOut(**note.as_dict()) for note in parts.triage.history(finding_id)])

    @router.post(
        "/findings/{finding_id}/triage",
        responses={400: {"model": ProblemOut}, 404: {"model": ProblemOut}, 409: {"model": ProblemOut}},
    )
    def triage(request: Request, visitor: Triaging, finding_id: str, wanted: ChangeIn) -> TriageOut:
        """Acknowledges, closes, reopens, assigns or notes."""
        try:
            change = Change(**wanted.model_dump())
            after = parts.triage.change(finding_id, change, visitor.name, int(time.time() * 1e6))
        except KeyError as error:
            raise HTTPException(404, f"no finding '{finding_id}'") from error
        except ConflictError as error:
            raise HTTPException(409, str(error)) from error
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        parts.note_look(request, visitor, change.action, "finding", finding_id, change.note or None)
        return TriageOut(**after.as_dict())

    @router.get("/risks")
    def risks_(
        request: Request,
        visitor: Seeing,
        limit: Annotated[int, Query(ge=1, le=1000, description="Most actors listed.")] = 50,
    ) -> RisksOut:
        """Actors by what all their findings come to, points that fade: where to look first."""
        newest = parts.monitor.status.newest
        now = int(time.time() * 1e6) if newest is None else newest
        listed = risks(parts.monitor.store.since(now - REACH), now)[:limit]
        may_know = visitor.may(Permission.REVEAL)
        if may_know and listed and visitor.role is not None:
            parts.note_look(request, visitor, "read", "risks", None, f"API, {len(listed)} actors")
        return RisksOut(
            as_of=rfc3339(now) or "",
            risks=[
                RiskOut(
                    actor=risk.actor if may_know else parts.naming(visitor).pseudonym("actor", risk.actor),
                    score=round(risk.score, 1),
                    findings=[finding.id for finding in risk.findings],
                    rules=risk.rules,
                )
                for risk in listed
            ],
        )


def _add_account(router: APIRouter, parts: Parts) -> None:
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
            workers=[_worker(*worker) for worker in parts.monitor.store.workers()],
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
