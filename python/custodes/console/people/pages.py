"""The pages about people: an actor, and a subject.

Each is seen for a purpose that was given, and every look is kept.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Depends, FastAPI, Form, HTTPException, Query, Request, Response
from fastapi.responses import RedirectResponse

from custodes.console.auth.access import is_within
from custodes.console.auth.session import Revealing, Visitor, from_our_form
from custodes.console.jobs.network import network_picture
from custodes.console.jobs.surroundings import PEERS_REACH
from custodes.console.people.person_view import person_view
from custodes.console.rendering import page
from custodes.console.services import Parts

Kind = Literal["actor", "subject"]
LEAST_PURPOSE = 5
NO_HISTORY = "no history is kept: set history in the configuration"


def add_people(app: FastAPI, parts: Parts) -> None:
    """Adds the routes."""

    @app.get("/actors/{hidden}", include_in_schema=False)
    def actor(request: Request, visitor: Revealing, hidden: str, after: _After = None) -> Response:
        return _person(request, parts, visitor, "actor", hidden, after)

    @app.get("/actors/{hidden}/around", include_in_schema=False)
    def around(request: Request, visitor: Revealing, hidden: str) -> Response:
        name = named(parts, "actor", hidden)
        purpose = parts.grants.purpose(visitor, "actor", name)
        if purpose is None or not is_within(parts.history, visitor, "actor", name):
            return RedirectResponse(parts.naming(visitor).address("actor", name), 303)
        if parts.surroundings is None:
            raise HTTPException(404, NO_HISTORY)
        view = parts.surroundings.of(name, visitor.reach, parts.monitor.status.newest)
        if view is None:
            unnamed = parts.naming(visitor).pseudonym("actor", name)
            waiting = page(request, parts, "around.html", name=unnamed, hidden=hidden, view=None)
            waiting.headers["Refresh"] = "1"
            return waiting
        parts.note_look(request, visitor, "read", "actor", name, purpose)
        picture = network_picture(name, view.shared, parts.naming(visitor).pseudonym)
        return page(
            request, parts, "around.html", name=name, hidden=hidden, view=view, picture=picture, days=PEERS_REACH
        )  # fmt: skip

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
        name = named(parts, kind, hidden)
        if len(purpose.strip()) >= LEAST_PURPOSE:
            parts.grants.give(visitor, kind, name, purpose.strip())
        return RedirectResponse(parts.naming(visitor).address(kind, name), 303)

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
    name = named(parts, kind, hidden)
    purpose = parts.grants.purpose(visitor, kind, name)
    if purpose is None:
        pseudonym = parts.naming(visitor).pseudonym(kind, name)
        return page(request, parts, "purpose.html", kind=kind, hidden=hidden, pseudonym=pseudonym)
    if not is_within(parts.history, visitor, kind, name):
        why = f"none of the resources that you may look into has anything of this {kind}"
        return page(request, parts, "refused.html", 403, why=why, back="/findings")
    try:
        view = person_view(parts, kind, name, after, visitor.reach)
    except ValueError as error:
        raise HTTPException(400, str(error)) from error
    parts.note_look(request, visitor, "read", kind, name, purpose)
    return page(request, parts, f"{kind}.html", kind=kind, name=name, hidden=hidden, purpose=purpose, view=view)


def named(parts: Parts, kind: str, hidden: str) -> str:
    """Whom an address is of. Raises 404 for what is none."""
    try:
        return parts.secrets.shown(kind, hidden)
    except ValueError as error:
        raise HTTPException(404, f"no such {kind}") from error
