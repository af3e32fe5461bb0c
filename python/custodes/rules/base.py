"""What every rule takes from its document, whatever it counts."""

from __future__ import annotations

from custodes.rules.conditions import Condition
from custodes.rules.model import Rule
from custodes.rules.parse import ParsedRule
from custodes.rules.timing import Timing


def base_of(
    one: ParsedRule, when: Condition, group_by: tuple[str, ...], timing: Timing, holds: dict[str, float]
) -> Rule:
    """A rule that counts events, with all that its document tells people."""
    sigma = one.sigma
    own = one.document.data.get("custodes") or {}
    return Rule(
        id=one.id,
        title=sigma.title or one.id,
        level=one.level,
        description=sigma.description or "",
        group_by=group_by,
        distinct=None,
        timespan=timing.timespan,
        resolution=timing.resolution,
        keep_open=timing.keep_open,
        holds=holds,
        when=when,
        file=one.document.file,
        line=one.document.line,
        text=one.document.text,
        false_positives=tuple(str(text).strip() for text in sigma.falsepositives or ()),
        references=tuple(str(link) for link in sigma.references or ()),
        tuning=str(own.get("tuning", "")).strip(),
        runbook=own.get("runbook"),
    )
