"""Signing in and out."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import Depends, FastAPI, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from custodes.accounts.store import SignInError
from custodes.console.auth.session import COOKIE, from_our_form, local_target, set_cookie, visitor_of
from custodes.console.rendering import render
from custodes.console.services import Parts
from custodes.console.sign_in.oidc import Elsewhere, add_elsewhere


def add_signing(app: FastAPI, parts: Parts, elsewhere: Elsewhere | None) -> None:
    """Adds the routes."""
    if elsewhere is not None:
        add_elsewhere(app, parts, elsewhere.provider)

    def shown(wanted: str, fault: str = "", name: str = "", status: int = 200) -> Response:
        text = render(
            "sign-in.html", wanted=local_target(wanted), fault=fault, name=name,
            elsewhere=None if elsewhere is None else elsewhere.title, here=parts.accounts.have_passwords(),
        )  # fmt: skip
        return HTMLResponse(text, status)

    @app.get("/sign-in", include_in_schema=False)
    def sign_in(wanted: Annotated[str, Query(alias="next", max_length=2000)] = "/") -> Response:
        return shown(wanted)

    # It needs no token of ours: it comes from here, or the door does not let it in, and there is nobody to borrow yet.
    @app.post("/sign-in", include_in_schema=False)
    def signed_in(
        request: Request,
        name: Annotated[str, Form(max_length=64)],
        password: Annotated[str, Form(max_length=1024)],
        wanted: Annotated[str, Form(alias="next", max_length=2000)] = "/",
    ) -> Response:
        now = int(time.time() * 1e6)
        try:
            # A session begins with a key that nobody had before.
            key = parts.accounts.sign_in(name, password, now)
        except SignInError as error:
            parts.put_down(request, name, "refused", "session", None, str(error))
            return shown(wanted, str(error), name, 401)
        parts.put_down(request, name, "sign in", "session", None, None)
        response = RedirectResponse(local_target(wanted), 303)
        set_cookie(response, request, key)
        return response

    @app.post("/sign-out", include_in_schema=False, dependencies=[Depends(from_our_form)])
    def sign_out(request: Request) -> Response:
        visitor = visitor_of(request)
        parts.accounts.sign_out(visitor.key)
        parts.note_look(request, visitor, "sign out", "session", None, None)
        response = RedirectResponse("/sign-in", 303)
        response.delete_cookie(COOKIE, path="/")
        return response
