"""Sign-in with OpenID Connect: redirect to the provider, and callback."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from custodes.accounts.oidc import BACK, BEGUN_SECONDS, OidcError, OidcProvider, PendingSignIn
from custodes.accounts.store import SignInError
from custodes.console.auth.session import local_target, put_cookie, set_cookie
from custodes.console.rendering import render
from custodes.console.services import Provided, Services

router = APIRouter(include_in_schema=False)

_COOKIE = "custodes-on-the-way"
_KIND = "sign-in"


@dataclass(frozen=True)
class FederatedSignIn:
    """The provider, and the label of its button."""

    provider: OidcProvider
    title: str


def federated_sign_in(request: Request) -> FederatedSignIn | None:
    """Returns the application's provider; ``None`` without one."""
    federated: FederatedSignIn | None = request.app.state.federated_sign_in
    return federated


def _configured(request: Request) -> FederatedSignIn:
    federated = federated_sign_in(request)
    if federated is None:
        raise HTTPException(404)
    return federated


ConfiguredSignIn = Annotated[FederatedSignIn, Depends(_configured)]


@router.get("/sign-in/elsewhere")
def out(
    request: Request,
    services: Provided,
    federated: ConfiguredSignIn,
    target: Annotated[str, Query(alias="next", max_length=2000)] = "/",
) -> Response:
    try:
        address, begun = federated.provider.begin(local_target(target))
    except OidcError as error:
        return _refused(services, request, "–", str(error))
    response = RedirectResponse(address, 303)
    # The provider redirects from another site, so this cookie is SameSite=Lax. It is only valid for the callback.
    kept = services.secrets.hidden(_KIND, begun.as_text())
    put_cookie(response, request, _COOKIE, kept, same_site="lax", path=BACK, seconds=BEGUN_SECONDS)
    return response


@router.get(BACK)
def back(
    request: Request,
    services: Provided,
    federated: ConfiguredSignIn,
    state: Annotated[str, Query(max_length=200)] = "",
    code: Annotated[str, Query(max_length=4000)] = "",
    error: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    try:
        begun = PendingSignIn.read(services.secrets.shown(_KIND, request.cookies.get(_COOKIE, "")))
    except ValueError:
        return _refused(services, request, "–", "this sign-in was not started in this browser, or it has expired")
    if error:
        return _refused(services, request, "–", f"the provider says: {error}")
    try:
        identity = federated.provider.finish(begun, state, code)
    except OidcError as fault:
        return _refused(services, request, "–", str(fault))
    try:
        known_as = f"{identity.issuer} {identity.subject}"
        key = services.accounts.arrive(identity.name, identity.role, identity.reach, known_as, int(time.time() * 1e6))
    except SignInError as fault:
        return _refused(services, request, identity.name, str(fault))
    services.record_access_by_name(request, identity.name, "sign in", "session", None, None)
    # A page instead of a redirect: after a redirect from another site the browser omits the SameSite=Strict cookie.
    response = HTMLResponse(render("signed-in.html", fault="", target=identity.wanted))
    set_cookie(response, request, key)
    response.delete_cookie(_COOKIE, path=BACK)
    return response


def _refused(services: Services, request: Request, name: str, why: str) -> Response:
    services.record_access_by_name(request, name, "refused", "session", None, why)
    return HTMLResponse(render("signed-in.html", fault=why, target="/sign-in"), 401)
