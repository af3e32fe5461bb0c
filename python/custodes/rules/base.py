"""The parts of a compiled rule that do not depend on what it counts."""

from __future__ import annotations

from custodes.rules.conditions import Condition
from custodes.rules.model import Rule
from custodes.rules.parse import ParsedRule
from custodes.rules.timing import Timing


def base_of(
    parsed: ParsedRule, when: Condition, group_by: tuple[str, ...], timing: Timing, holds: dict[str, float]
) -> Rule:
    """Returns a rule that counts events, with the descriptive texts of its document."""
    sigma = parsed.sigma
    own = parsed.document.data.get("custodes") or {}
    return Rule(
        id=parsed.id,
        title=sigma.title or parsed.id,
        level=parsed.level,
        description=sigma.description or "",
        group_by=group_by,
        distinct=None,
        timespan=timing.timespan,
        resolution=timing.resolution,
        keep_open=timing.keep_open,
        holds=holds,
        when=when,
        file=parsed.document.file,
        line=parsed.document.line,
        text=parsed.document.text,
        false_positives=tuple(str(text).strip() for text in sigma.falsepositives or ()),
        references=tuple(str(link) for link in sigma.references or ()),
        tuning=str(own.get("tuning", "")).strip(),
        runbook=own.get("runbook"),
    )
