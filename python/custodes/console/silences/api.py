"""API of silences."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Request

from custodes.console.auth.access import may_see_all_names
from custodes.console.auth.session import Caller, Triager, Viewer
from custodes.console.middleware.idempotency import IdempotencyKey
from custodes.console.schema import ProblemOut, SilenceIn, SilenceOut, SilencesOut
from custodes.console.services import Provided, Services
from custodes.findings.silences import Silence

router = APIRouter()

_SilenceNumber = Annotated[int, Path(ge=1, le=2**62)]


@router.get("/silences")
def silences(visitor: Viewer, services: Provided) -> SilencesOut:
    """Active and scheduled silences."""
    return SilencesOut(silences=[_out(services, visitor, one) for one in services.silences.all(_now())])


@router.post(
    "/silences",
    status_code=201,
    responses={400: {"model": ProblemOut}, 409: {"model": ProblemOut}},
    dependencies=[IdempotencyKey],
)
def silence(request: Request, visitor: Triager, services: Provided, body: SilenceIn) -> SilenceOut:
    """Creates a silence: matching findings that open during it are closed as explained, and no alert is sent."""
    try:
        since = _now() if body.since is None else _micros(body.since)
        forms = services.monitor.store.forms
        group = {name: forms.normal(name, value) for name, value in body.group.items()}
        one = Silence(body.rule_id, group, since, _micros(body.until), visitor.name, body.reason)
    except (ValueError, OverflowError) as error:
        raise HTTPException(400, str(error)) from error
    number = services.silences.add(one)
    services.record_access(request, visitor, "silence", "finding", str(number), one.reason)
    return _out(services, visitor, Silence(**{**vars(one), "number": number}))


@router.delete("/silences/{number}", status_code=204, responses={404: {"model": ProblemOut}})
def end(request: Request, visitor: Triager, services: Provided, number: _SilenceNumber) -> None:
    """Ends a silence."""
    try:
        services.silences.end(number, _now())
    except KeyError as error:
        raise HTTPException(404, f"no active silence {number}") from error
    services.record_access(request, visitor, "unsilence", "finding", str(number), None)


def _out(services: Services, visitor: Caller, one: Silence) -> SilenceOut:
    naming = services.naming(visitor)
    plain = may_see_all_names(visitor)
    group = {name: value if plain else naming.pseudonym(name, value) for name, value in one.group.items()}
    fields: dict[str, Any] = one.as_dict() | {"group": group}
    return SilenceOut(**fields)


def _now() -> int:
    return int(time.time() * 1e6)


def _micros(time: datetime) -> int:
    return int(time.timestamp() * 1e6)
