"""The Audit page."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from custodes.console.auth.session import Auditor
from custodes.console.rendering import page
from custodes.console.services import Provided

router = APIRouter(include_in_schema=False)

_ON_A_PAGE = 100


@router.get("/audit")
def audit(
    request: Request,
    visitor: Auditor,
    services: Provided,
    account: Annotated[str, Query(max_length=64)] = "",
    before: Annotated[int | None, Query(ge=0, le=2**62)] = None,
) -> Response:
    having = {"account": account} if account else {}
    looks, following = services.audit.page(_ON_A_PAGE, before, having)
    return page(request, "audit.html", looks=looks, following=following, account=account)
