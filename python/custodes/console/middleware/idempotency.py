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
            description="Anything that names this request. Sent again with it within a day, it is answered as it was "
            "and not done again; 422 with another request, 409 while it is being done.",
        ),
    ] = None,
) -> None:
    """Documents the header in OpenAPI; :class:`IdempotencyMiddleware` reads it."""


IdempotencyKey = Depends(_key)


def _changes_something(path: str) -> bool:
    """Looks at people are sent by POST so that no address names them; each is a look, and is on record as one."""
    return path.startswith(_API) and not path.startswith(f"{_API}people/") and not path.endswith("/evidence")


class IdempotencyMiddleware:
    """Answers a request that was done before as it was answered then. It is behind the door: keys are a visitor's."""

    def __init__(self, app: ASGIApp, answers: IdempotencyStore) -> None:
        self._app = app
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = Headers(scope=scope).get("idempotency-key") if scope["type"] == "http" else None
        if not key or scope["method"] != "POST" or not _changes_something(scope["path"]):
            await self._app(scope, receive, send)
            return
        body = await _whole(receive)
        if body is None or len(key) > _MOST_KEY:
            what = f"an Idempotency-Key has at most {_MOST_KEY} characters, and its request {_MOST_BODY} bytes"
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
            # As FastAPI says what is wrong with a request.
            wrong = {"loc": ["header", "idempotency-key"], "msg": str(error), "type": "value_error"}
            await JSONResponse({"detail": [wrong]}, 422)(scope, receive, send)
            return
        if known is not None:
            headers = {"Idempotency-Replayed": "true"}
            await Response(known.body, known.status, headers, "application/json")(scope, receive, send)
            return
        given = await self._do(scope, body, send)
        await run_in_threadpool(self._answers.keep, owner, key, given)

    async def _do(self, scope: Scope, body: bytes, send: Send) -> StoredResponse | None:
        """What was answered, for another time; ``None`` where it may be tried again."""
        status, told = 500, b""
        is_read = False

        async def again() -> Message:
            nonlocal is_read
            if is_read:
                return {"type": "http.disconnect"}
            is_read = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def listen(message: Message) -> None:
            nonlocal status, told
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                told += message.get("body", b"")
            await send(message)

        await self._app(scope, again, listen)
        return None if status >= 500 else StoredResponse(status, told.decode())


async def _whole(receive: Receive) -> bytes | None:
    """A request's body; ``None`` of one that is too long."""
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
