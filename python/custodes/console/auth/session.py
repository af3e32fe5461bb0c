"""Authentication and permissions of callers: sessions, tokens, and protection against cross-site requests."""

from __future__ import annotations

import getpass
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Literal
from urllib.parse import quote, urlsplit

from fastapi import Depends, Form, HTTPException, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from custodes.accounts import resource_scope
from custodes.accounts.resource_scope import ResourceScope
from custodes.accounts.roles import ALL_PERMISSIONS, Permission, Role
from custodes.accounts.secrets import Secrets
from custodes.accounts.store import AccountStore
from custodes.accounts.tokens import TokenStore

COOKIE = "custodes"
_OPEN = ("/static/", "/metrics", "/-/healthy", "/-/ready", "/sign-in")
"""Paths without authentication: they contain no names."""
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_GRANT_SECONDS = 900.0
"""Validity of a stated purpose for one person."""
_MOST_GRANTS = 10_000


@dataclass(frozen=True)
class Caller:
    """An authenticated caller."""

    name: str
    role: Role | None
    """``None`` without accounts: a local user, with all permissions."""
    permissions: frozenset[Permission]
    key: str
    """Session key or token that authenticates the caller."""
    reach: ResourceScope = resource_scope.UNRESTRICTED
    """Resources whose events and people the caller may see."""

    def may(self, permission: Permission) -> bool:
        return permission in self.permissions


@dataclass
class PurposeGrants:
    """Stated purposes, by caller and person. They are kept in memory, so a restart asks for them again."""

    _until: dict[tuple[str, str, str], tuple[float, str]] = field(default_factory=dict)

    def give(self, visitor: Caller, kind: str, name: str, purpose: str) -> None:
        if len(self._until) >= _MOST_GRANTS:
            self._until.clear()
        self._until[(visitor.key, kind, name)] = (time.monotonic() + _GRANT_SECONDS, purpose)

    def purpose(self, visitor: Caller, kind: str, name: str) -> str | None:
        """Returns the stated purpose; ``None`` without one, or after it has expired."""
        until, purpose = self._until.get((visitor.key, kind, name), (0.0, ""))
        return purpose if time.monotonic() < until else None


class AuthenticationMiddleware:
    """Authenticates each request, or answers with the sign-in page, 401, 403 or 421."""

    def __init__(
        self, app: ASGIApp, *, accounts: AccountStore, tokens: TokenStore, keys: Secrets, hosts: frozenset[str],
        is_guarded: bool = False,
    ) -> None:  # fmt: skip
        """``hosts`` are the accepted host names while there are no accounts; ``is_guarded`` requires sign-in even then,
        because accounts come from an identity provider."""
        self._app = app
        self._accounts = accounts
        self._tokens = tokens
        self._secrets = keys
        self._hosts = hosts
        self._is_guarded = is_guarded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        if request.method not in _SAFE and not _is_same_site(request):
            refusal = JSONResponse({"detail": "the request comes from another site"}, 403)
            await refusal(scope, receive, send)
            return
        visitor = await run_in_threadpool(self._visitor, request)
        request.state.visitor = visitor
        if visitor is None and not request.url.path.startswith(_OPEN):
            await self._unauthenticated(request)(scope, receive, send)
            return
        if visitor is not None and visitor.role is None and COOKIE not in request.cookies:
            send = _with_cookie(send, request, visitor.key)
        await self._app(scope, receive, send)

    def _visitor(self, request: Request) -> Caller | None:
        key = request.cookies.get(COOKIE, "")
        if not self._must_sign_in():
            # DNS rebinding: a page of another site can let its own host name resolve to this machine.
            if urlsplit(f"//{request.headers.get('host', '')}").hostname not in self._hosts:
                return None
            return Caller(getpass.getuser(), None, ALL_PERMISSIONS, key or secrets.token_urlsafe(32))
        now = int(time.time() * 1e6)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            # A token takes precedence over a session cookie, and is valid for the API only.
            found = self._tokens.of(token.strip(), now) if request.url.path.startswith("/api/") else None
            if found is None:
                return None
            account, permissions = found
            return Caller(account.name, account.role, permissions, token, account.reach)
        signed_in = self._accounts.of_session(key, now) if key else None
        if signed_in is None:
            return None
        return Caller(signed_in.name, signed_in.role, signed_in.role.permissions, key, signed_in.reach)

    def _must_sign_in(self) -> bool:
        return self._is_guarded or self._accounts.exist()

    def _unauthenticated(self, request: Request) -> Response:
        if not self._must_sign_in():
            return JSONResponse(
                {"detail": "without accounts, only requests to a host name of this machine are served"}, 421
            )
        if request.method in _SAFE and not request.url.path.startswith("/api/"):
            path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"/sign-in?next={quote(path)}", 303)
        return JSONResponse({"detail": "sign in first"}, 401, {"WWW-Authenticate": "Bearer"})


def _with_cookie(send: Send, request: Request, key: str) -> Send:
    """Adds the session cookie to the response."""
    carrier = Response()
    set_cookie(carrier, request, key)

    async def send_both(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).append("set-cookie", carrier.headers["set-cookie"])
        await send(message)

    return send_both


def set_cookie(response: Response, request: Request, key: str) -> None:
    """Sets the session cookie: scripts cannot read it, and other sites cannot send it."""
    put_cookie(response, request, COOKIE, key, same_site="strict")


def put_cookie(
    response: Response,
    request: Request,
    name: str,
    value: str,
    *,
    same_site: Literal["lax", "strict"],
    path: str = "/",
    seconds: int | None = None,
) -> None:
    """Sets a cookie: TLS only if the request came by TLS; without ``seconds``, for the browser session."""
    secure = request.url.scheme == "https"
    response.set_cookie(name, value, seconds, path=path, secure=secure, httponly=True, samesite=same_site)


def _is_same_site(request: Request) -> bool:
    """Returns whether a request comes from one of our pages, or from a program, which sends no such headers."""
    if (site := request.headers.get("sec-fetch-site")) is not None:
        return site in {"same-origin", "none"}
    # Older browsers send only Origin.
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def visitor_of(request: Request) -> Caller:
    """Returns the authenticated caller. Raises 401 if the request has no caller."""
    visitor = request.state.visitor
    if not isinstance(visitor, Caller):
        raise HTTPException(401, "sign in first")
    return visitor


def may(permission: Permission) -> Callable[[Request], Caller]:
    """Returns a dependency that requires a permission, else raises 403."""

    def allowed(request: Request) -> Caller:
        visitor = visitor_of(request)
        if not visitor.may(permission):
            raise HTTPException(403, f"the role {visitor.role} may not {permission}")
        return visitor

    return allowed


Viewer = Annotated[Caller, Depends(may(Permission.SEE))]
NameViewer = Annotated[Caller, Depends(may(Permission.REVEAL))]
Triager = Annotated[Caller, Depends(may(Permission.TRIAGE))]
Auditor = Annotated[Caller, Depends(may(Permission.AUDIT))]
Operator = Annotated[Caller, Depends(may(Permission.OPERATE))]


def require_form_token(request: Request, token: Annotated[str, Form()] = "") -> None:
    """Checks the CSRF token of a form. Raises 403 if it is not the caller's."""
    if not request.app.state.services.secrets.is_form_token(visitor_of(request).key, token):
        raise HTTPException(403, "the form has expired: go back, reload the page and submit it again")


def local_target(target: str) -> str:
    """Returns the redirect target if it is a local path, else ``/``."""
    is_ours = target.startswith("/") and not target.startswith(("//", "/\\")) and "\\" not in target
    return target if is_ours and not any(ord(letter) < 32 for letter in target) else "/"
