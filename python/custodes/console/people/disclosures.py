"""The account of disclosures: all look-ups of a subject, as CSV for the person concerned."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from custodes.console.auth.session import NameViewer
from custodes.console.csv_rows import csv_row
from custodes.console.people.pages import NO_HISTORY, named
from custodes.console.rendering import page
from custodes.console.services import Provided
from custodes.findings import rfc3339
from custodes.history import History

router = APIRouter(include_in_schema=False)

_MOST_EXPORTED = 100_000


@router.get("/subjects/{hidden}/disclosures.csv")
def disclosures(request: Request, visitor: NameViewer, services: Provided, hidden: str) -> Response:
    name = named(services, "subject", hidden)
    purpose = services.grants.purpose(visitor, "subject", name)
    if purpose is None:
        return RedirectResponse(services.naming(visitor).address("subject", name), 303)
    if services.history is None:
        raise HTTPException(404, NO_HISTORY)
    if not visitor.reach.is_everything:
        why = "your access covers only some resources, and the account must be complete"
        return page(request, "refused.html", 403, why=why, back=f"/subjects/{hidden}")
    services.record_access(request, visitor, "export", "subject", name, purpose)
    file_name = f'attachment; filename="disclosures-{services.secrets.pseudonym("subject", name)}.csv"'
    lines = map(csv_row, disclosure_rows(services.history, name))
    return StreamingResponse(lines, media_type="text/csv", headers={"Content-Disposition": file_name})


def disclosure_rows(history: History, subject: str) -> Iterator[tuple[str | None, ...]]:
    """Yields the rows of the account, the header first."""
    yield ("time", "actor", "peer_group", "resource", "action", "purpose", "app")
    for one in history.accesses({"subject": subject}, limit=_MOST_EXPORTED):
        yield (rfc3339(one.time), one.actor, one.peer_group, one.resource, one.action, one.purpose, one.app)
