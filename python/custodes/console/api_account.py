"""The API's accounts of things: rules and how they fare, cases, and who looked at what."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from custodes.console.auth.access import sees_every_name
from custodes.console.auth.session import Auditing, Seeing
from custodes.console.cases.view import cases_view
from custodes.console.rules.list_view import rules_view
from custodes.console.services import Parts
from custodes.findings import rfc3339


class RuleOut(BaseModel):
    """A rule in force, and how it fares."""

    id: str
    title: str
    level: str
    description: str
    counts: str = Field(description="What it counts, in words.")
    group_by: list[str]
    fires: str = Field(description="When it fires, in words.")
    open: int = Field(description="Findings that hold now, and that nobody has closed.")
    findings: int = Field(description="All there are.")
    last: str | None = Field(description="When one last opened.")
    judged: int = Field(description="Findings that people have closed, duplicates aside.")
    verdicts: dict[str, int]
    groups: int = Field(description="Groups it remembers now: what it costs.")
    peak_ratio: float = Field(description="The largest count now, as a share of the threshold.")


class RulesOut(BaseModel):
    """The rules in force, those with open findings first."""

    rules: list[RuleOut]


class CaseOut(BaseModel):
    """One actor's findings that nobody has closed."""

    actor: str = Field(description="A pseudonym for those who may not know.")
    score: float
    findings: list[str] = Field(description="Ids, the latest first; twenty at most.")
    count: int


class CasesOut(BaseModel):
    """Cases, the highest risk first."""

    cases: list[CaseOut]
    count: int = Field(description="How many there are, those left out included.")


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


def add_account(router: APIRouter, parts: Parts) -> None:
    """Adds the routes."""

    @router.get("/rules")
    def rules(visitor: Seeing) -> RulesOut:
        """The rules in force, and how each fares."""
        return RulesOut(
            rules=[
                RuleOut(
                    id=line.rule.id,
                    title=line.rule.title,
                    level=line.rule.level,
                    description=line.rule.description or "",
                    counts=line.rule.counts,
                    group_by=list(line.rule.group_by),
                    fires=line.rule.fires,
                    open=line.open,
                    findings=line.total,
                    last=rfc3339(line.last),
                    judged=line.judged,
                    verdicts=line.verdicts,
                    groups=line.groups,
                    peak_ratio=round(line.peak_ratio, 3),
                )
                for line in rules_view(parts)
            ]
        )

    @router.get("/cases")
    def cases(request: Request, visitor: Seeing) -> CasesOut:
        """Findings that nobody has closed, person by person."""
        view, naming, plain = cases_view(parts), parts.naming(visitor), sees_every_name(visitor)
        if plain and view.cases and visitor.role is not None:
            parts.note_look(request, visitor, "read", "cases", None, f"API, {len(view.cases)} cases")
        told = [
            CaseOut(
                actor=case.actor if plain else naming.pseudonym("actor", case.actor),
                score=round(case.score, 1),
                findings=[finding.id for finding in case.findings],
                count=case.count,
            )
            for case in view.cases
        ]
        return CasesOut(cases=told, count=view.count)

    @router.get("/audit")
    def audit(
        visitor: Auditing,
        account: Annotated[str | None, Query(max_length=64, description="Only what this account did.")] = None,
        before: Annotated[int | None, Query(ge=0, le=2**62, description="The `next` of the page before.")] = None,
        limit: Annotated[int, Query(ge=1, le=1000, description="Most entries on a page.")] = 100,
    ) -> AuditOut:
        """What the users of Custodes looked at and did, and what for; people without their names."""
        looks, following = parts.audit.page(limit, before, {"account": account} if account else {})
        naming = parts.naming(visitor)
        told = []
        for number, look in looks:
            told.append(LookOut(**(look.as_dict() | {"number": number, "subject": naming.looked_at(look)})))
        return AuditOut(looks=told, next=following)
