"""View model of the page of one finding."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from custodes.console.auth.access import may_see_names
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
"""Largest distance of findings shown as neighbours: one day, in microseconds."""


@dataclass(frozen=True)
class FindingView:
    """The page content."""

    finding: Finding
    rule: Rule | None
    """``None`` if the rule is no longer active."""
    reveals: bool
    """Whether the visitor may see names."""
    who: str
    """The group, with names if ``reveals``, else with pseudonyms."""
    names: dict[str, str]
    reason: str
    chart: Markup
    counted: list[Finding]
    """Contributing findings, newest first, if the rule counts findings."""
    events: list[ContributingEvent]
    """Newest first."""
    event_count: int | None
    """Number of events found; ``None`` without history."""
    events_kept_back: int
    """Number of these that are outside the visitor's resource scope."""
    is_whole: bool
    people_are: str
    """``subject`` in a finding about an actor, else ``actor``."""
    people: list[tuple[str, int]]
    people_count: int
    resources: list[tuple[str, int]]
    """Resources accessed, most frequent first."""
    others: list[Finding]
    """Other findings of the same actor, or of the same group, newest first."""
    neighbours: list[Finding]
    """Other findings of the same rule within a day, nearest first."""
    triage: Triage
    triages: dict[str, Triage]
    """Triage of the contributing findings."""
    notes: list[Note]
    entries: int | None
    """Number of entries in the evidence log; ``None`` if no evidence is kept."""


def finding_view(services: Services, finding: Finding, visitor: Caller) -> FindingView:
    """Reads the page content that ``visitor`` may see."""
    rule = next((rule for rule in services.rules if rule.id == finding.rule_id), None)
    contribution = services.contribution_of(finding)
    naming, reveals = services.naming(visitor), may_see_names(visitor, finding, lambda _: contribution)
    names = finding.shown if reveals else naming.group(finding)
    found = 0 if contribution is None else len(contribution.events)
    chart = Markup("")
    if contribution is not None and contribution.curve:
        chart = count_over_time(
            contribution.curve, finding.threshold, contribution.since, finding.held_until, finding.opened_at
        )
    about = {"actor": finding.group["actor"]} if "actor" in finding.group else finding.group
    counted = list(contribution.findings[::-1]) if contribution else []
    shown = {finding.id, *(one.id for one in counted)}
    others = services.monitor.store.page(_SHOWN_OTHERS + len(shown), group=about).findings
    if contribution is not None and not visitor.reach.is_everything:
        contribution = contribution.within(visitor.reach.covers)
    people_are = "subject" if "actor" in finding.group else "actor"
    people = contribution.people(people_are) if contribution else []
    return FindingView(
        finding=finding,
        rule=rule,
        reveals=reveals,
        who=finding.who if reveals else naming.who(finding),
        names=names,
        reason=reason(finding, rule, say),
        chart=chart,
        counted=counted,
        events=list(contribution.events[: -_SHOWN_EVENTS - 1 : -1]) if contribution else [],
        event_count=found if contribution else None,
        events_kept_back=found - len(contribution.events) if contribution else 0,
        is_whole=contribution.is_whole if contribution else False,
        people_are=people_are,
        people=people[:_SHOWN_PEOPLE],
        people_count=len(people),
        resources=contribution.resources()[:_SHOWN_OTHERS] if contribution else [],
        others=[one for one in others if one.id not in shown][:_SHOWN_OTHERS],
        neighbours=[
            one for one in services.monitor.store.about_then(finding, _ABOUT_THEN, _SHOWN_OTHERS) if one.id not in shown
        ],
        triage=services.triage.of([finding.id])[finding.id],
        triages=services.triage.of(one.id for one in counted),
        notes=services.triage.history(finding.id),
        entries=None if services.evidence_store is None else services.evidence_store.count(finding.id),
    )
