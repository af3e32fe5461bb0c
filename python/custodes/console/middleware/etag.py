"""``ETag`` and ``If-None-Match`` for API responses (RFC 9110, 13): 304 if the client has the current version."""

from __future__ import annotations

import hashlib

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_API = "/api/v1/"


class EtagMiddleware:
    """Adds an ``ETag`` to API responses and answers 304 if the client sent the same one. Streams pass unchanged."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or not scope["path"].startswith(_API):
            await self._app(scope, receive, send)
            return
        begun: Message | None = None

        async def answer(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = message
                return
            if begun is None:
                await send(message)
                return
            start, begun = begun, None
            if start["status"] == 200 and not message.get("more_body"):
                tag = f'"{hashlib.sha256(message.get("body", b"")).hexdigest()[:32]}"'
                headers = MutableHeaders(scope=start)
                headers["ETag"] = tag
                if _is_among(tag, Headers(scope=scope).get("if-none-match", "")):
                    start["status"] = 304
                    del headers["content-length"]
                    message = {"type": "http.response.body", "body": b""}
            await send(start)
            await send(message)

        await self._app(scope, receive, answer)


def _is_among(tag: str, known: str) -> bool:
    return known.strip() == "*" or tag in {one.strip().removeprefix("W/") for one in known.split(",")}
