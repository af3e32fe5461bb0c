"""The API's audit trail."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from custodes.console.auth.session import Auditor
from custodes.console.services import Provided

router = APIRouter()


class LookOut(BaseModel):
    """One entry of the audit trail."""

    number: int
    at: str
    account: str
    action: str
    resource: str
    subject: str | None = Field(description="A pseudonym: auditors need no names.")
    purpose: str | None
    address: str | None


class AuditOut(BaseModel):
    """A page of the trail, the latest first."""

    looks: list[LookOut]
    next: int | None = Field(description="Pass as `before` for the next page; null on the last.")


@router.get("/audit")
def audit(
    visitor: Auditor,
    services: Provided,
    account: Annotated[str | None, Query(max_length=64, description="Only what this account did.")] = None,
    before: Annotated[int | None, Query(ge=0, le=2**62, description="The `next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most entries on a page.")] = 100,
) -> AuditOut:
    """What the users of Custodes looked at and did, and what for; people without their names."""
    looks, following = services.audit.page(limit, before, {"account": account} if account else {})
    naming = services.naming(visitor)
    told = []
    for number, look in looks:
        told.append(LookOut(**(look.as_dict() | {"number": number, "subject": naming.looked_at(look)})))
    return AuditOut(looks=told, next=following)
