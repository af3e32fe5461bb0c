"""What the page of cases shows: findings that nobody has closed, person by person, the highest risk first."""

from __future__ import annotations

import time
from dataclasses import dataclass

from custodes.console.services import Services
from custodes.findings import Finding
from custodes.findings.risk import REACH, risks

_SHOWN_CASES = 25
_SHOWN_FINDINGS = 20


@dataclass(frozen=True)
class ActorCase:
    """One actor's findings that nobody has closed."""

    actor: str
    score: float
    """What all of the actor's findings come to, closed ones but false positives included."""
    findings: list[Finding]
    """The latest first; not more than can be looked through."""
    count: int


@dataclass(frozen=True)
class CasesView:
    """The whole page."""

    cases: list[ActorCase]
    count: int
    """How many there are."""


def cases_view(services: Services) -> CasesView:
    """Reads it."""
    newest = services.monitor.status.newest
    now = int(time.time() * 1e6) if newest is None else newest
    judged = services.triage.closed()
    known = (one for one in services.monitor.store.since(now - REACH) if judged.get(one.id) != "false_positive")
    cases = []
    for risk in risks(known, now):
        waiting = [one for one in risk.findings if one.id not in judged]
        if waiting:
            cases.append(ActorCase(risk.actor, risk.score, waiting[:_SHOWN_FINDINGS], len(waiting)))
    return CasesView(cases[:_SHOWN_CASES], len(cases))
