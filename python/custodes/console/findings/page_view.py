"""What the page of one finding shows: enough to judge it in a minute."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from custodes.console.auth.access import sees_who
from custodes.console.auth.session import Caller
from custodes.console.charts.bars_and_curves import count_over_time
from custodes.console.localization import say
from custodes.console.services import Services
from custodes.evidence.contributing_events import ContributingEvent
from custodes.findings import Finding
from custodes.findings.triage import Note, Triage
from custodes.findings.wording import reason
from custodes.rules import Rule

_SHOWN_EVENTS = 50
_SHOWN_PEOPLE = 20
_SHOWN_OTHERS = 10
_ABOUT_THEN = 86_400_000_000
"""A day, in microseconds: so near are neighbours."""


@dataclass(frozen=True)
class FindingView:
    """The whole page."""

    finding: Finding
    rule: Rule | None
    """``None`` where it is not in force any more."""
    reveals: bool
    """Whether names may be seen."""
    who: str
    """Names where they may be seen, else pseudonyms."""
    names: dict[str, str]
    reason: str
    chart: Markup
    counted: list[Finding]
    """The findings that counted, where a rule counts findings; the latest first."""
    events: list[ContributingEvent]
    """The latest first."""
    event_count: int | None
    """How many were found; ``None`` where they cannot be."""
    events_kept_back: int
    """How many of these are of resources that the visitor may not look into."""
    is_whole: bool
    people_are: str
    """``subject`` of an actor's finding: whose records; ``actor`` of others: who looked."""
    people: list[tuple[str, int]]
    people_count: int
    resources: list[tuple[str, int]]
    """What was looked into, the most often first."""
    others: list[Finding]
    """Of the same actor, or the same group, the latest first."""
    neighbours: list[Finding]
    """Others of the same rule about that time, the nearest first."""
    triage: Triage
    stands: dict[str, Triage]
    """What people made of those that counted."""
    notes: list[Note]
    entries: int | None
    """How many there are in the evidence log; ``None`` where none is kept."""


def finding_view(services: Services, finding: Finding, visitor: Caller) -> FindingView:
    """Reads it, as ``visitor`` may see it."""
    rule = next((rule for rule in services.rules if rule.id == finding.rule_id), None)
    behind = services.events_behind(finding)
    naming, reveals = services.naming(visitor), sees_who(visitor, finding, lambda _: behind)
    names = finding.group if reveals else naming.group(finding)
    found = 0 if behind is None else len(behind.events)
    chart = Markup("")
    if behind is not None and behind.curve:
        chart = count_over_time(behind.curve, finding.threshold, behind.since, finding.held_until, finding.opened_at)
    about = {"actor": finding.group["actor"]} if "actor" in finding.group else finding.group
    counted = list(behind.findings[::-1]) if behind else []
    told = {finding.id, *(one.id for one in counted)}
    others = services.monitor.store.page(_SHOWN_OTHERS + len(told), group=about).findings
    if behind is not None and not visitor.reach.is_everything:
        behind = behind.within(visitor.reach.covers)
    people_are = "subject" if "actor" in finding.group else "actor"
    people = behind.people(people_are) if behind else []
    return FindingView(
        finding=finding,
        rule=rule,
        reveals=reveals,
        who=finding.who if reveals else naming.who(finding),
        names=names,
        reason=reason(finding, rule, say),
        chart=chart,
        counted=counted,
        events=list(behind.events[: -_SHOWN_EVENTS - 1 : -1]) if behind else [],
        event_count=found if behind else None,
        events_kept_back=found - len(behind.events) if behind else 0,
        is_whole=behind.is_whole if behind else False,
        people_are=people_are,
        people=people[:_SHOWN_PEOPLE],
        people_count=len(people),
        resources=behind.resources()[:_SHOWN_OTHERS] if behind else [],
        others=[one for one in others if one.id not in told][:_SHOWN_OTHERS],
        neighbours=[
            one for one in services.monitor.store.about_then(finding, _ABOUT_THEN, _SHOWN_OTHERS) if one.id not in told
        ],
        triage=services.triage.of([finding.id])[finding.id],
        stands=services.triage.of(one.id for one in counted),
        notes=services.triage.history(finding.id),
        entries=None if services.vault is None else services.vault.count(finding.id),
    )
