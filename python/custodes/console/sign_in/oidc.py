"""Signing in elsewhere: out to the provider, and back."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from custodes.accounts.oidc import BACK, BEGUN_SECONDS, Begun, OidcError, Provider
from custodes.accounts.store import SignInError
from custodes.console.auth.session import local_target, put_cookie, set_cookie
from custodes.console.rendering import render
from custodes.console.services import Parts

_COOKIE = "custodes-on-the-way"
_KIND = "sign-in"


@dataclass(frozen=True)
class Elsewhere:
    """The provider, and what the button to it says."""

    provider: Provider
    title: str


def add_elsewhere(app: FastAPI, parts: Parts, provider: Provider) -> None:
    """Adds the routes."""

    def refused(request: Request, name: str, why: str) -> Response:
        parts.put_down(request, name, "refused", "session", None, why)
        return HTMLResponse(render("signed-in.html", fault=why, wanted="/sign-in"), 401)

    @app.get("/sign-in/elsewhere", include_in_schema=False)
    def out(request: Request, wanted: Annotated[str, Query(alias="next", max_length=2000)] = "/") -> Response:
        try:
            address, begun = provider.begin(local_target(wanted))
        except OidcError as error:
            return refused(request, "–", str(error))
        response = RedirectResponse(address, 303)
        # It comes back from another site, so it is not as strict as the session's; and is of no use but for that.
        kept = parts.secrets.hidden(_KIND, begun.as_text())
        put_cookie(response, request, _COOKIE, kept, same_site="lax", path=BACK, seconds=BEGUN_SECONDS)
        return response

    @app.get(BACK, include_in_schema=False)
    def back(
        request: Request,
        state: Annotated[str, Query(max_length=200)] = "",
        code: Annotated[str, Query(max_length=4000)] = "",
        error: Annotated[str, Query(max_length=200)] = "",
    ) -> Response:
        try:
            begun = Begun.read(parts.secrets.shown(_KIND, request.cookies.get(_COOKIE, "")))
        except ValueError:
            return refused(request, "–", "this sign-in was not begun here, or too long ago")
        if error:
            return refused(request, "–", f"the provider says: {error}")
        try:
            identity = provider.finish(begun, state, code)
        except OidcError as fault:
            return refused(request, "–", str(fault))
        try:
            known_as = f"{identity.issuer} {identity.subject}"
            key = parts.accounts.arrive(identity.name, identity.role, identity.reach, known_as, int(time.time() * 1e6))
        except SignInError as fault:
            return refused(request, identity.name, str(fault))
        parts.put_down(request, identity.name, "sign in", "session", None, None)
        # A page, and no redirect: what follows one from another site comes without our strict cookie.
        response = HTMLResponse(render("signed-in.html", fault="", wanted=identity.wanted))
        set_cookie(response, request, key)
        response.delete_cookie(_COOKIE, path=BACK)
        return response
