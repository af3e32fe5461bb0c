"""View model of the Cases page: findings that are not closed, grouped by actor, highest risk first."""

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
    """An actor's findings that are not closed."""

    actor: str
    score: float
    """Risk of all findings of the actor, including closed ones except false positives."""
    findings: list[Finding]
    """Newest first, at most 20."""
    count: int


@dataclass(frozen=True)
class CasesView:
    """The page content."""

    cases: list[ActorCase]
    count: int
    """Number of all cases."""


def cases_view(services: Services) -> CasesView:
    """Reads the page content from the stores."""
    newest = services.monitor.status.newest
    now = int(time.time() * 1e6) if newest is None else newest
    verdicts = services.triage.closed()
    known = (one for one in services.monitor.store.since(now - REACH) if verdicts.get(one.id) != "false_positive")
    cases = []
    for risk in risks(known, now):
        waiting = [one for one in risk.findings if one.id not in verdicts]
        if waiting:
            cases.append(ActorCase(risk.actor, risk.score, waiting[:_SHOWN_FINDINGS], len(waiting)))
    return CasesView(cases[:_SHOWN_CASES], len(cases))
