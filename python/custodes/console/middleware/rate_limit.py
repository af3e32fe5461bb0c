"""How often somebody may ask: of an account all that it asks, of strangers the passwords they try.

Counted in the process that is asked; whoever sits at a machine that serves itself alone asks as often as they like.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from custodes.console.auth.session import Caller


@dataclass(frozen=True)
class RateLimits:
    """How often, a minute."""

    requests: int
    """Of one account, whatever they are for."""
    sign_ins: int
    """Of one address, right or wrong."""


class RateLimitMiddleware:
    """Answers 429 to whoever asks too often, and says when to come again. It stands behind the door."""

    def __init__(self, app: ASGIApp, *, rates: RateLimits) -> None:
        self._app = app
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._requests = RateLimitItemPerMinute(rates.requests)
        self._sign_ins = RateLimitItemPerMinute(rates.sign_ins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        counted = self._counted(Request(scope)) if scope["type"] == "http" else None
        if counted is None or self._limiter.hit(*counted):
            await self._app(scope, receive, send)
            return
        seconds = math.ceil(max(1.0, self._limiter.get_window_stats(*counted).reset_time - time.time()))
        why, when = f"too many requests: try again in {seconds} s", {"Retry-After": str(seconds)}
        is_program = scope["path"].startswith("/api/")
        refusal = JSONResponse({"detail": why}, 429, when) if is_program else PlainTextResponse(why, 429, when)
        await refusal(scope, receive, send)

    def _counted(self, request: Request) -> tuple[RateLimitItem, str, str] | None:
        """What a request counts towards; ``None`` for what does not count."""
        visitor: Caller | None = request.state.visitor
        if visitor is not None:
            return None if visitor.role is None else (self._requests, "account", visitor.name)
        if request.method == "POST" and request.url.path == "/sign-in":
            return self._sign_ins, "address", request.client.host if request.client else ""
        return None
