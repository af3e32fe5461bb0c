"""API for exporting all findings as NDJSON or CSV."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from custodes.console.auth.access import may_see_all_names
from custodes.console.auth.session import Viewer
from custodes.console.csv_rows import csv_row
from custodes.console.findings.api import visible_to
from custodes.console.services import Provided
from custodes.findings.triage import TriageState

router = APIRouter()

_KINDS = {"ndjson": "application/x-ndjson", "csv": "text/csv"}


@router.get(
    "/exports/findings",
    response_class=StreamingResponse,
    responses={200: {"content": {kind: {"schema": {"type": "string"}} for kind in _KINDS.values()}}},
)
def export(
    request: Request,
    visitor: Viewer,
    services: Provided,
    format: Annotated[Literal["ndjson", "csv"], Query(description="One JSON object per line, or a table.")] = "ndjson",
    open: Annotated[bool, Query(description="Only ongoing findings.")] = False,
    rule_id: Annotated[str | None, Query(description="Only findings of this rule.")] = None,
    level: Annotated[str | None, Query(description="Only findings of this level.")] = None,
    state: Annotated[TriageState | None, Query(description="Only findings in this triage state.")] = None,
) -> StreamingResponse:
    """All findings, newest first. In CSV, no cell is read as a formula."""

    def each() -> Iterator[dict[str, Any]]:
        after: str | None = None
        while True:
            page = services.monitor.store.page(1000, after, open_only=open, rule_id=rule_id, level=level, state=state)
            yield from visible_to(services, request, visitor, page.findings, may_see_all_names(visitor))
            after = page.next
            if after is None:
                return

    write = _as_csv if format == "csv" else _as_ndjson
    headers = {"Content-Disposition": f'attachment; filename="findings.{format}"'}
    return StreamingResponse(write(each()), media_type=_KINDS[format], headers=headers)


def _as_ndjson(findings: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    for one in findings:
        yield orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE)


_COLUMNS = ("id", "rule_id", "rule", "level", "opened_at", "closed_at", "peak", "count", "threshold")


def _as_csv(findings: Iterator[dict[str, Any]]) -> Iterator[str]:
    yield csv_row((*_COLUMNS, "group", "state", "verdict", "assignee"))
    for one in findings:
        group = ", ".join(f"{name} {value}" for name, value in one["group"].items())
        triage = one["triage"]
        triages = (triage["state"], triage["verdict"], triage["assignee"])
        yield csv_row((*(one[name] for name in _COLUMNS), group, *triages))
