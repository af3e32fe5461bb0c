"""API of the audit trail."""

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
    subject: str | None = Field(description="Pseudonym; auditors do not see names.")
    purpose: str | None
    address: str | None


class AuditOut(BaseModel):
    """A page of the audit trail, newest first."""

    looks: list[LookOut]
    next: int | None = Field(description="Pass as `before` for the next page; null on the last.")


@router.get("/audit")
def audit(
    visitor: Auditor,
    services: Provided,
    account: Annotated[str | None, Query(max_length=64, description="Only entries of this account.")] = None,
    before: Annotated[int | None, Query(ge=0, le=2**62, description="`next` of the previous page.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Largest number of entries on a page.")] = 100,
) -> AuditOut:
    """Accesses and actions of the users of Custodes, with their purposes. People are pseudonyms."""
    looks, following = services.audit.page(limit, before, {"account": account} if account else {})
    naming = services.naming(visitor)
    entries = []
    for number, look in looks:
        entries.append(LookOut(**(look.as_dict() | {"number": number, "subject": naming.looked_at(look)})))
    return AuditOut(looks=entries, next=following)
