"""Rate limits: requests per account, and sign-in attempts per address.

They are counted in this process. Local users of an installation without accounts are not limited.
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
    """Limits per minute."""

    requests: int
    """Requests per account."""
    sign_ins: int
    """Sign-in attempts per address, successful or not."""


class RateLimitMiddleware:
    """Answers 429 with ``Retry-After`` above the limit. It runs after authentication."""

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
        """Returns the limit and key that a request counts towards; ``None`` if it is not limited."""
        visitor: Caller | None = request.state.visitor
        if visitor is not None:
            return None if visitor.role is None else (self._requests, "account", visitor.name)
        if request.method == "POST" and request.url.path == "/sign-in":
            return self._sign_ins, "address", request.client.host if request.client else ""
        return None
