"""Who is asking, and what they may: sessions, forms that came from our own pages, and the way in."""

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
"""What needs no account: nothing of it names anybody."""
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_GRANT_SECONDS = 900.0
"""For how long a purpose holds that was given for one person."""
_MOST_GRANTS = 10_000


@dataclass(frozen=True)
class Caller:
    """Who is asking."""

    name: str
    role: Role | None
    """``None`` where there are no accounts, and whoever sits at the machine does everything."""
    permissions: frozenset[Permission]
    key: str
    """What the browser has to prove it."""
    reach: ResourceScope = resource_scope.UNRESTRICTED
    """Of which resources they see the events, and the people."""

    def may(self, permission: Permission) -> bool:
        return permission in self.permissions


@dataclass
class PurposeGrants:
    """Purposes that were given for looking at a person. In memory: after a restart one is asked again."""

    _until: dict[tuple[str, str, str], tuple[float, str]] = field(default_factory=dict)

    def give(self, visitor: Caller, kind: str, name: str, purpose: str) -> None:
        if len(self._until) >= _MOST_GRANTS:
            self._until.clear()
        self._until[(visitor.key, kind, name)] = (time.monotonic() + _GRANT_SECONDS, purpose)

    def purpose(self, visitor: Caller, kind: str, name: str) -> str | None:
        """The purpose it was given for; ``None`` where there is none, or not any more."""
        until, purpose = self._until.get((visitor.key, kind, name), (0.0, ""))
        return purpose if time.monotonic() < until else None


class AuthenticationMiddleware:
    """Lets requests in, or not."""

    def __init__(
        self, app: ASGIApp, *, accounts: AccountStore, tokens: TokenStore, keys: Secrets, hosts: frozenset[str],
        is_guarded: bool = False,
    ) -> None:  # fmt: skip
        """``hosts`` are the names under which it serves while there are no accounts; ``is_guarded``: people sign in
        though there are none yet."""
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
        if request.method not in _SAFE and not _is_from_here(request):
            refusal = JSONResponse({"detail": "the request comes from another site"}, 403)
            await refusal(scope, receive, send)
            return
        visitor = await run_in_threadpool(self._visitor, request)
        request.state.visitor = visitor
        if visitor is None and not request.url.path.startswith(_OPEN):
            await self._to_the_door(request)(scope, receive, send)
            return
        if visitor is not None and visitor.role is None and COOKIE not in request.cookies:
            send = _with_cookie(send, request, visitor.key)
        await self._app(scope, receive, send)

    def _visitor(self, request: Request) -> Caller | None:
        key = request.cookies.get(COOKIE, "")
        if not self._must_sign_in():
            # A page of another site may have its own name point to this machine; it would not be one of these.
            if urlsplit(f"//{request.headers.get('host', '')}").hostname not in self._hosts:
                return None
            return Caller(getpass.getuser(), None, ALL_PERMISSIONS, key or secrets.token_urlsafe(32))
        now = int(time.time() * 1e6)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            # A program says who it is by this alone, whatever else comes with it; and it has no pages.
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

    def _to_the_door(self, request: Request) -> Response:
        if not self._must_sign_in():
            return JSONResponse({"detail": "without accounts only this machine itself is served, by its own name"}, 421)
        if request.method in _SAFE and not request.url.path.startswith("/api/"):
            wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"/sign-in?next={quote(wanted)}", 303)
        return JSONResponse({"detail": "sign in first"}, 401, {"WWW-Authenticate": "Bearer"})


def _with_cookie(send: Send, request: Request, key: str) -> Send:
    """Sends what is sent, and with it the browser's key."""
    carrier = Response()
    set_cookie(carrier, request, key)

    async def send_both(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).append("set-cookie", carrier.headers["set-cookie"])
        await send(message)

    return send_both


def set_cookie(response: Response, request: Request, key: str) -> None:
    """Gives the browser its key: no script reads it, no other site sends it."""
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
    """Gives the browser something to keep, by TLS only where it came by TLS; without ``seconds`` until it is closed."""
    secure = request.url.scheme == "https"
    response.set_cookie(name, value, seconds, path=path, secure=secure, httponly=True, samesite=same_site)


def _is_from_here(request: Request) -> bool:
    """Whether a browser says that a page of ours sent it; programs say nothing."""
    if (site := request.headers.get("sec-fetch-site")) is not None:
        return site in {"same-origin", "none"}
    # Older browsers say less.
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def visitor_of(request: Request) -> Caller:
    """Who is asking. Raises 401 where nobody is known."""
    visitor = request.state.visitor
    if not isinstance(visitor, Caller):
        raise HTTPException(401, "sign in first")
    return visitor


def may(permission: Permission) -> Callable[[Request], Caller]:
    """The visitor, who must be allowed something; else 403."""

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


def from_our_form(request: Request, token: Annotated[str, Form()] = "") -> None:
    """A form must come from a page that this visitor was given; else 403."""
    if not request.app.state.services.secrets.is_form_token(visitor_of(request).key, token):
        raise HTTPException(403, "the form is out of date; go back, load the page again and send it once more")


def local_target(wanted: str) -> str:
    """Where to go next, if that is one of our own pages; else the first."""
    is_ours = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and "\\" not in wanted
    return wanted if is_ours and not any(ord(letter) < 32 for letter in wanted) else "/"
