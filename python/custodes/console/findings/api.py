"""The API's findings: read, exported, judged."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import StreamingResponse

from custodes.console.auth.access import sees_every_name, sees_who
from custodes.console.auth.session import Seeing, Triaging, Visitor
from custodes.console.csv_rows import csv_row
from custodes.console.middleware.idempotency import OnceOnlyKey
from custodes.console.schema import (
    ChangeIn,
    FindingOut,
    FindingsOut,
    HistoryOut,
    NoteOut,
    ProblemOut,
    RiskOut,
    RisksOut,
    TriageOut,
)
from custodes.console.services import Parts
from custodes.findings import Finding, rfc3339
from custodes.findings.risk import REACH, risks
from custodes.findings.triage import Change, ConflictError, State

_KINDS = {"ndjson": "application/x-ndjson", "csv": "text/csv"}


def add_findings(router: APIRouter, parts: Parts) -> None:
    """Adds the routes."""

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
            findings=[
                FindingOut(**one) for one in _told(parts, request, visitor, page.findings, sees_every_name(visitor))
            ],
            next=page.next,
        )

    @router.get("/findings/{finding_id}", response_model_exclude_unset=True, responses={404: {"model": ProblemOut}})
    def finding(request: Request, visitor: Seeing, finding_id: str) -> FindingOut:
        """One finding."""
        found = finding_called(parts, finding_id)
        reveals = sees_who(visitor, found, parts.events_behind)
        return FindingOut(**_told(parts, request, visitor, [found], reveals)[0])

    @router.get("/findings/{finding_id}/history", responses={404: {"model": ProblemOut}})
    def history(visitor: Seeing, finding_id: str) -> HistoryOut:
        """What people made of a finding, the earliest first."""
        finding_called(parts, finding_id)
        return HistoryOut(notes=[NoteOut(**note.as_dict()) for note in parts.triage.history(finding_id)])

    @router.post(
        "/findings/{finding_id}/triage",
        responses={400: {"model": ProblemOut}, 404: {"model": ProblemOut}, 409: {"model": ProblemOut}},
        dependencies=[OnceOnlyKey],
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


def add_exports(router: APIRouter, parts: Parts) -> None:
    """Adds the routes that give all there is."""

    @router.get(
        "/exports/findings",
        response_class=StreamingResponse,
        responses={200: {"content": {kind: {"schema": {"type": "string"}} for kind in _KINDS.values()}}},
    )
    def export(
        request: Request,
        visitor: Seeing,
        format: Annotated[Literal["ndjson", "csv"], Query(description="JSON a line, or a table.")] = "ndjson",
        open: Annotated[bool, Query(description="Only findings not closed.")] = False,
        rule_id: Annotated[str | None, Query(description="Only this rule's.")] = None,
        level: Annotated[str | None, Query(description="Only this level's.")] = None,
        state: Annotated[State | None, Query(description="Only what people made this of.")] = None,
    ) -> StreamingResponse:
        """All findings, newest first. In a table no cell is a formula."""

        def each() -> Iterator[dict[str, Any]]:
            after: str | None = None
            while True:
                page = parts.monitor.store.page(1000, after, open_only=open, rule_id=rule_id, level=level, state=state)
                yield from _told(parts, request, visitor, page.findings, sees_every_name(visitor))
                after = page.next
                if after is None:
                    return

        write = _as_csv if format == "csv" else _as_ndjson
        headers = {"Content-Disposition": f'attachment; filename="findings.{format}"'}
        return StreamingResponse(write(each()), media_type=_KINDS[format], headers=headers)


def add_risks(router: APIRouter, parts: Parts) -> None:
    """Adds the route."""

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
        may_know = sees_every_name(visitor)
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


def finding_called(parts: Parts, finding_id: str) -> Finding:
    """Raises 404 for none."""
    found = parts.monitor.store.get(finding_id)
    if found is None:
        raise HTTPException(404, f"no finding '{finding_id}'")
    return found


def _told(
    parts: Parts, request: Request, visitor: Visitor, findings: list[Finding], reveals: bool
) -> list[dict[str, Any]]:
    """Findings as this visitor may see them, with how they stand; names seen are put down."""
    if reveals:
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


def _as_ndjson(findings: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    for one in findings:
        yield orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE)


_COLUMNS = ("id", "rule_id", "rule", "level", "opened_at", "closed_at", "peak", "count", "threshold")


def _as_csv(findings: Iterator[dict[str, Any]]) -> Iterator[str]:
    yield csv_row((*_COLUMNS, "group", "state", "verdict", "assignee"))
    for one in findings:
        group = ", ".join(f"{name} {value}" for name, value in one["group"].items())
        triage = one["triage"]
        stands = (triage["state"], triage["verdict"], triage["assignee"])
        yield csv_row((*(one[name] for name in _COLUMNS), group, *stands))
