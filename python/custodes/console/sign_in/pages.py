"""Pages for signing in and out."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from custodes.accounts.store import SignInError
from custodes.console.auth.session import COOKIE, local_target, require_form_token, set_cookie, visitor_of
from custodes.console.rendering import render
from custodes.console.services import Provided, Services
from custodes.console.sign_in.oidc import FederatedSignIn, federated_sign_in

router = APIRouter(include_in_schema=False)

_OptionalSignIn = Annotated[FederatedSignIn | None, Depends(federated_sign_in)]


@router.get("/sign-in")
def sign_in(
    services: Provided, federated: _OptionalSignIn, target: Annotated[str, Query(alias="next", max_length=2000)] = "/"
) -> Response:
    return _form(services, federated, target)


# No CSRF token: the authentication middleware refuses cross-site requests, and there is no session yet to abuse.
@router.post("/sign-in")
def signed_in(
    request: Request,
    services: Provided,
    federated: _OptionalSignIn,
    name: Annotated[str, Form(max_length=64)],
    password: Annotated[str, Form(max_length=1024)],
    target: Annotated[str, Form(alias="next", max_length=2000)] = "/",
) -> Response:
    now = int(time.time() * 1e6)
    try:
        # A new session key prevents session fixation.
        key = services.accounts.sign_in(name, password, now)
    except SignInError as error:
        services.record_access_by_name(request, name, "refused", "session", None, str(error))
        return _form(services, federated, target, str(error), name, 401)
    services.record_access_by_name(request, name, "sign in", "session", None, None)
    response = RedirectResponse(local_target(target), 303)
    set_cookie(response, request, key)
    return response


@router.post("/sign-out", dependencies=[Depends(require_form_token)])
def sign_out(request: Request, services: Provided) -> Response:
    visitor = visitor_of(request)
    services.accounts.sign_out(visitor.key)
    services.record_access(request, visitor, "sign out", "session", None, None)
    response = RedirectResponse("/sign-in", 303)
    response.delete_cookie(COOKIE, path="/")
    return response


def _form(
    services: Services,
    federated: FederatedSignIn | None,
    target: str,
    fault: str = "",
    name: str = "",
    status: int = 200,
) -> Response:
    text = render(
        "sign-in.html", target=local_target(target), fault=fault, name=name,
        provider=None if federated is None else federated.title, has_passwords=services.accounts.have_passwords(),
    )  # fmt: skip
    return HTMLResponse(text, status)
