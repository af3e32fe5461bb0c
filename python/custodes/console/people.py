"""The pages about people: an actor, and a subject.

Each is seen for a purpose that was given, and every look is kept.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import Depends, FastAPI, Form, HTTPException, Query, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from custodes.console.around_view import PEERS_REACH, around_view
from custodes.console.csv_rows import csv_row
from custodes.console.need_to_know import sees_all_of_it
from custodes.console.parts import Parts
from custodes.console.person_view import person_view
from custodes.console.rendering import page
from custodes.console.visitors import Revealing, Visitor, from_our_form
from custodes.evidence.bundle import export
from custodes.findings import rfc3339
from custodes.history import Access, History

Kind = Literal["actor", "subject"]
_MOST_EXPORTED = 100_000
_LEAST_PURPOSE = 5


def add_people(app: FastAPI, parts: Parts) -> None:
    """Adds the routes."""

    @app.get("/actors/{hidden}", include_in_schema=False)
    def actor(request: Request, visitor: Revealing, hidden: str, after: _After = None) -> Response:
        return _person(request, parts, visitor, "actor", hidden, after)

    @app.get("/actors/{hidden}/around", include_in_schema=False)
    def around(request: Request, visitor: Revealing, hidden: str) -> Response:
        name = _named(parts, "actor", hidden)
        purpose = parts.grants.purpose(visitor, "actor", name)
        if purpose is None or not _is_within(parts, visitor, "actor", name):
            return RedirectResponse(parts.naming(visitor).address("actor", name), 303)
        view = around_view(parts, _history(parts), name, visitor)
        parts.note_look(request, visitor, "read", "actor", name, purpose)
        return page(request, parts, "around.html", name=name, hidden=hidden, view=view, days=PEERS_REACH)

    @app.get("/subjects/{hidden}", include_in_schema=False)
    def subject(request: Request, visitor: Revealing, hidden: str, after: _After = None) -> Response:
        return _person(request, parts, visitor, "subject", hidden, after)

    @app.post("/look", include_in_schema=False, dependencies=[Depends(from_our_form)])
    def look(
        visitor: Revealing,
        kind: Annotated[Kind, Form()],
        hidden: Annotated[str, Form(max_length=4000)],
        purpose: Annotated[str, Form(max_length=200)] = "",
    ) -> Response:
        name = _named(parts, kind, hidden)
        if len(purpose.strip()) >= _LEAST_PURPOSE:
            parts.grants.give(visitor, kind, name, purpose.strip())
        return RedirectResponse(parts.naming(visitor).address(kind, name), 303)

    @app.get("/subjects/{hidden}/disclosures.csv", include_in_schema=False)
    def disclosures(request: Request, visitor: Revealing, hidden: str) -> Response:
        name = _named(parts, "subject", hidden)
        purpose = parts.grants.purpose(visitor, "subject", name)
        if purpose is None:
            return RedirectResponse(parts.naming(visitor).address("subject", name), 303)
        history = _history(parts)
        if not visitor.reach.is_everything:
            # Half an account of who looked is a wrong one.
            why = "you may look into some resources only, and the person concerned is to have all of it"
            return page(request, parts, "refused.html", 403, why=why, back=f"/subjects/{hidden}")
        parts.note_look(request, visitor, "export", "subject", name, purpose)
        file_name = f'attachment; filename="disclosures-{parts.secrets.pseudonym("subject", name)}.csv"'
        lines = _as_csv(history.accesses({"subject": name}, limit=_MOST_EXPORTED))
        return StreamingResponse(lines, media_type="text/csv", headers={"Content-Disposition": file_name})

    @app.post("/findings/{finding_id}/evidence", include_in_schema=False, dependencies=[Depends(from_our_form)])
    def evidence(
        request: Request, visitor: Revealing, finding_id: str, purpose: Annotated[str, Form(max_length=200)] = ""
    ) -> Response:
        found = parts.monitor.store.get(finding_id)
        if parts.vault is None or found is None:
            return page(request, parts, "missing.html", 404, what="evidence")
        if len(purpose.strip()) < _LEAST_PURPOSE:
            back = f"/findings/{finding_id}"
            return page(request, parts, "refused.html", 400, why="Say what it is for.", back=back)
        behind = parts.behind.of(found) if parts.behind else None
        if not sees_all_of_it(visitor, found, behind, parts.vault.about(finding_id)):
            why = "there are events of resources among it that you may not look into"
            return page(request, parts, "refused.html", 403, why=why, back=f"/findings/{finding_id}")
        parts.note_look(request, visitor, "export", "evidence", found.group.get("actor", finding_id), purpose.strip())
        bundle = io.BytesIO()
        try:
            export(parts.vault.log, finding_id, bundle)
        except ValueError as error:
            raise HTTPException(404, str(error)) from error
        file_name = f'attachment; filename="evidence-{finding_id[:8]}.zip"'
        return Response(bundle.getvalue(), media_type="application/zip", headers={"Content-Disposition": file_name})

    @app.post("/search", include_in_schema=False, dependencies=[Depends(from_our_form)])
    def search(request: Request, visitor: Revealing, wanted: Annotated[str, Form(max_length=1000)] = "") -> Response:
        wanted = wanted.strip()
        if wanted and parts.monitor.store.get(wanted) is not None:
            return RedirectResponse(f"/findings/{wanted}", 303)
        within = visitor.reach.patterns
        actors = parts.history.actors(wanted, within=within) if wanted and parts.history else []
        is_subject = bool(wanted and parts.history and parts.history.knows("subject", wanted, within))
        if wanted:
            parts.note_look(request, visitor, "search", "people", wanted, None)
        return page(request, parts, "search.html", wanted=wanted, actors=actors, is_subject=is_subject)


_After = Annotated[str | None, Query(max_length=400)]


def _person(request: Request, parts: Parts, visitor: Visitor, kind: Kind, hidden: str, after: str | None) -> Response:
    name = _named(parts, kind, hidden)
    purpose = parts.grants.purpose(visitor, kind, name)
    if purpose is None:
        pseudonym = parts.naming(visitor).pseudonym(kind, name)
        return page(request, parts, "purpose.html", kind=kind, hidden=hidden, pseudonym=pseudonym)
    if not _is_within(parts, visitor, kind, name):
        why = f"none of the resources that you may look into has anything of this {kind}"
        return page(request, parts, "refused.html", 403, why=why, back="/findings")
    try:
        view = person_view(parts, kind, name, after, visitor.reach)
    except ValueError as error:
        raise HTTPException(400, str(error)) from error
    parts.note_look(request, visitor, "read", kind, name, purpose)
    return page(request, parts, f"{kind}.html", kind=kind, name=name, hidden=hidden, purpose=purpose, view=view)


def _is_within(parts: Parts, visitor: Visitor, kind: Kind, name: str) -> bool:
    """Whether somebody may see who this is: they did, or had done to them, what the visitor may look into."""
    if visitor.reach.is_everything:
        return True
    return parts.history is not None and parts.history.knows(kind, name, visitor.reach.patterns)


def _named(parts: Parts, kind: str, hidden: str) -> str:
    try:
        return parts.secrets.shown(kind, hidden)
    except ValueError as error:
        raise HTTPException(404, f"no such {kind}") from error


def _history(parts: Parts) -> History:
    if parts.history is None:
        raise HTTPException(404, "no history is kept: set history in the configuration")
    return parts.history


def _as_csv(accesses: list[Access]) -> Iterator[str]:
    yield csv_row(("time", "actor", "peer_group", "resource", "action", "purpose", "app"))
    for one in accesses:
        yield csv_row((rfc3339(one.time), one.actor, one.peer_group, one.resource, one.action, one.purpose, one.app))
