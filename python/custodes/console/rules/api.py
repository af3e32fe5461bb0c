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
    """An active rule with its statistics."""

    id: str
    title: str
    level: str
    description: str
    counts: str = Field(description="Counted quantity, in words.")
    group_by: list[str]
    fires: str = Field(description="Condition, in words.")
    open: int = Field(description="Ongoing findings that are not closed.")
    findings: int = Field(description="Number of all findings.")
    last: str | None = Field(description="Time at which a finding last opened.")
    judged: int = Field(description="Closed findings, without duplicates.")
    verdicts: dict[str, int]
    groups: int = Field(description="Groups for which the rule holds state now, a measure of its memory use.")
    peak_ratio: float = Field(description="Largest count now, as a share of the threshold.")


class RulesOut(BaseModel):
    """Active rules, those with open findings first."""

    rules: list[RuleOut]


@router.get("/rules")
def rules(visitor: Viewer, services: Provided) -> RulesOut:
    """Active rules with their statistics."""
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
                judged=line.reviewed,
                verdicts=line.verdicts,
                groups=line.groups,
                peak_ratio=round(line.peak_ratio, 3),
            )
            for line in rules_view(services)
        ]
    )
