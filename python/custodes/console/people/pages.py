"""The pages of actors and subjects.

Each requires a stated purpose, and every view is audited.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Form, HTTPException, Query, Request, Response
from fastapi.responses import RedirectResponse

from custodes.console.auth.access import is_in_scope
from custodes.console.auth.session import Caller, NameViewer, require_form_token
from custodes.console.jobs.network import network_picture
from custodes.console.jobs.surroundings import PEERS_REACH
from custodes.console.people.person_view import person_view
from custodes.console.rendering import page
from custodes.console.services import Provided, Services

router = APIRouter(include_in_schema=False)

PersonKind = Literal["actor", "subject"]
LEAST_PURPOSE = 5
_After = Annotated[str | None, Query(max_length=400)]
NO_HISTORY = "no history is kept: set history in the configuration"


@router.get("/actors/{hidden}")
def actor(request: Request, visitor: NameViewer, services: Provided, hidden: str, after: _After = None) -> Response:
    return _person(request, services, visitor, "actor", hidden, after)


@router.get("/actors/{hidden}/around")
def around(request: Request, visitor: NameViewer, services: Provided, hidden: str) -> Response:
    name = named(services, "actor", hidden)
    purpose = services.grants.purpose(visitor, "actor", name)
    if purpose is None or not is_in_scope(services.history, visitor, "actor", name):
        return RedirectResponse(services.naming(visitor).address("actor", name), 303)
    if services.surroundings is None:
        raise HTTPException(404, NO_HISTORY)
    view = services.surroundings.of(name, visitor.reach, services.monitor.status.newest)
    if view is None:
        unnamed = services.naming(visitor).pseudonym("actor", name)
        waiting = page(request, "around.html", name=unnamed, hidden=hidden, view=None)
        waiting.headers["Refresh"] = "1"
        return waiting
    services.record_access(request, visitor, "read", "actor", name, purpose)
    picture = network_picture(name, view.shared, services.naming(visitor).pseudonym)
    return page(
        request, "around.html", name=name, hidden=hidden, view=view, picture=picture, days=PEERS_REACH
    )  # fmt: skip


@router.get("/subjects/{hidden}")
def subject(request: Request, visitor: NameViewer, services: Provided, hidden: str, after: _After = None) -> Response:
    return _person(request, services, visitor, "subject", hidden, after)


@router.post("/look", dependencies=[Depends(require_form_token)])
def look(
    visitor: NameViewer,
    services: Provided,
    kind: Annotated[PersonKind, Form()],
    hidden: Annotated[str, Form(max_length=4000)],
    purpose: Annotated[str, Form(max_length=200)] = "",
) -> Response:
    name = named(services, kind, hidden)
    if len(purpose.strip()) >= LEAST_PURPOSE:
        services.grants.give(visitor, kind, name, purpose.strip())
    return RedirectResponse(services.naming(visitor).address(kind, name), 303)


@router.post("/search", dependencies=[Depends(require_form_token)])
def search(
    request: Request, visitor: NameViewer, services: Provided, wanted: Annotated[str, Form(max_length=1000)] = ""
) -> Response:
    wanted = wanted.strip()
    if wanted and services.monitor.store.get(wanted) is not None:
        return RedirectResponse(f"/findings/{wanted}", 303)
    within = visitor.reach.patterns
    actors = services.history.actors(wanted, within=within) if wanted and services.history else []
    is_subject = bool(wanted and services.history and services.history.knows("subject", wanted, within))
    if wanted:
        services.record_access(request, visitor, "search", "people", wanted, None)
    return page(request, "search.html", wanted=wanted, actors=actors, is_subject=is_subject)


def _person(
    request: Request, services: Services, visitor: Caller, kind: PersonKind, hidden: str, after: str | None
) -> Response:
    name = named(services, kind, hidden)
    purpose = services.grants.purpose(visitor, kind, name)
    if purpose is None:
        pseudonym = services.naming(visitor).pseudonym(kind, name)
        return page(request, "purpose.html", kind=kind, hidden=hidden, pseudonym=pseudonym)
    if not is_in_scope(services.history, visitor, kind, name):
        why = f"this {kind} has no events in your access"
        return page(request, "refused.html", 403, why=why, back="/findings")
    try:
        view = person_view(services, kind, name, after, visitor.reach)
    except ValueError as error:
        raise HTTPException(400, str(error)) from error
    services.record_access(request, visitor, "read", kind, name, purpose)
    return page(request, f"{kind}.html", kind=kind, name=name, hidden=hidden, purpose=purpose, view=view)


def named(services: Services, kind: str, hidden: str) -> str:
    """Decrypts the name in a path. Raises 404 if it is invalid."""
    try:
        return services.secrets.shown(kind, hidden)
    except ValueError as error:
        raise HTTPException(404, f"no such {kind}") from error
