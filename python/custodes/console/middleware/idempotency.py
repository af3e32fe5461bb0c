"""``Idempotency-Key`` for API requests that change something: a retried request gets the stored response."""

from __future__ import annotations

import hashlib
import time
from typing import Annotated

from fastapi import Depends, Header
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from custodes.accounts.idempotency_store import IdempotencyStore, InProgressError, KeyReusedError, StoredResponse

_API = "/api/v1/"
_MOST_KEY = 200
_MOST_BODY = 1 << 20


def _key(
    idempotency_key: Annotated[
        str | None,
        Header(
            max_length=_MOST_KEY,
            description="Unique key of this request. A retry with the same key within a day gets the stored response "
            "and is not executed again; 422 if the key was used for another request, 409 while the first is in "
            "progress.",
        ),
    ] = None,
) -> None:
    """Documents the header in OpenAPI; :class:`IdempotencyMiddleware` reads it."""


IdempotencyKey = Depends(_key)


def _changes_something(path: str) -> bool:
    """Returns whether a POST changes state. Views of people use POST to keep names out of URLs; each is audited."""
    return path.startswith(_API) and not path.startswith(f"{_API}people/") and not path.endswith("/evidence")


class IdempotencyMiddleware:
    """Answers a repeated request with the stored response. It runs after authentication: keys belong to an account."""

    def __init__(self, app: ASGIApp, answers: IdempotencyStore) -> None:
        self._app = app
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = Headers(scope=scope).get("idempotency-key") if scope["type"] == "http" else None
        if not key or scope["method"] != "POST" or not _changes_something(scope["path"]):
            await self._app(scope, receive, send)
            return
        body = await _read_body(receive)
        if body is None or len(key) > _MOST_KEY:
            what = (
                f"the limit is {_MOST_KEY} characters for an Idempotency-Key, {_MOST_BODY} bytes for its request body"
            )
            await JSONResponse({"detail": what}, 400)(scope, receive, send)
            return
        owner, now = scope["state"]["visitor"].name, int(time.time() * 1e6)
        request = hashlib.sha256(f"{scope['path']}\0".encode() + body).hexdigest()
        try:
            known = await run_in_threadpool(self._answers.begin, owner, key, request, now)
        except InProgressError as error:
            await JSONResponse({"detail": str(error)}, 409)(scope, receive, send)
            return
        except KeyReusedError as error:
            # In the format of FastAPI's validation errors.
            wrong = {"loc": ["header", "idempotency-key"], "msg": str(error), "type": "value_error"}
            await JSONResponse({"detail": [wrong]}, 422)(scope, receive, send)
            return
        if known is not None:
            headers = {"Idempotency-Replayed": "true"}
            await Response(known.body, known.status, headers, "application/json")(scope, receive, send)
            return
        response = await self._execute(scope, body, send)
        await run_in_threadpool(self._answers.keep, owner, key, response)

    async def _execute(self, scope: Scope, body: bytes, send: Send) -> StoredResponse | None:
        """Executes a request and returns the response to store; ``None`` after a server error, which may be retried."""
        status, response_body = 500, b""
        is_read = False

        async def replay_body() -> Message:
            nonlocal is_read
            if is_read:
                return {"type": "http.disconnect"}
            is_read = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def record(message: Message) -> None:
            nonlocal status, response_body
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                response_body += message.get("body", b"")
            await send(message)

        await self._app(scope, replay_body, record)
        return None if status >= 500 else StoredResponse(status, response_body.decode())


async def _read_body(receive: Receive) -> bytes | None:
    """Reads the request body; ``None`` if it is too long."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > _MOST_BODY:
            return None
        if not message.get("more_body"):
            return bytes(body)
