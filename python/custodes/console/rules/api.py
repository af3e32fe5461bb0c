"""The API's rules: definition and statistics of each."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from custodes.console.auth.session import Viewer
from custodes.console.rules.list_view import rules_view
from custodes.console.services import Provided
from custodes.findings import rfc3339

router = APIRouter()


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


@router.get("/rules")
def rules(visitor: Viewer, services: Provided) -> RulesOut:
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
            for line in rules_view(services)
        ]
    )
