"""The API's silences: what is expected, for a while."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Request

from custodes.console.auth.access import sees_every_name
from custodes.console.auth.session import Seeing, Triaging, Visitor
from custodes.console.middleware.idempotency import OnceOnlyKey
from custodes.console.schema import ProblemOut, SilenceIn, SilenceOut, SilencesOut
from custodes.console.services import Parts
from custodes.findings.silences import Silence

_Number = Annotated[int, Path(ge=1, le=2**62)]


def add_silences(router: APIRouter, parts: Parts) -> None:
    """Adds the routes."""

    @router.get("/silences")
    def silences(visitor: Seeing) -> SilencesOut:
        """Those that hold, or will."""
        return SilencesOut(silences=[_out(parts, visitor, one) for one in parts.silences.all(_now())])

    @router.post(
        "/silences",
        status_code=201,
        responses={400: {"model": ProblemOut}, 409: {"model": ProblemOut}},
        dependencies=[OnceOnlyKey],
    )
    def silence(request: Request, visitor: Triaging, wanted: SilenceIn) -> SilenceOut:
        """Explains findings beforehand: those that open meanwhile are closed at once, and nobody is alerted."""
        try:
            since = _now() if wanted.since is None else _micros(wanted.since)
            one = Silence(wanted.rule_id, wanted.group, since, _micros(wanted.until), visitor.name, wanted.reason)
        except (ValueError, OverflowError) as error:
            raise HTTPException(400, str(error)) from error
        number = parts.silences.add(one)
        parts.note_look(request, visitor, "silence", "finding", str(number), one.reason)
        return _out(parts, visitor, Silence(**{**vars(one), "number": number}))

    @router.delete("/silences/{number}", status_code=204, responses={404: {"model": ProblemOut}})
    def end(request: Request, visitor: Triaging, number: _Number) -> None:
        """Ends one."""
        try:
            parts.silences.end(number, _now())
        except KeyError as error:
            raise HTTPException(404, f"no silence {number} holds") from error
        parts.note_look(request, visitor, "unsilence", "finding", str(number), None)


def _out(parts: Parts, visitor: Visitor, one: Silence) -> SilenceOut:
    naming = parts.naming(visitor)
    plain = sees_every_name(visitor)
    group = {name: value if plain else naming.pseudonym(name, value) for name, value in one.group.items()}
    told: dict[str, Any] = one.as_dict() | {"group": group}
    return SilenceOut(**told)


def _now() -> int:
    return int(time.time() * 1e6)


def _micros(time: datetime) -> int:
    return int(time.timestamp() * 1e6)
