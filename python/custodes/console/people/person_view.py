"""View model of the pages of actors and subjects."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from markupsafe import Markup

from custodes.accounts.resource_scope import ResourceScope
from custodes.console.charts.bars_and_curves import bars
from custodes.console.localization import local, say
from custodes.console.services import Services
from custodes.findings import Finding
from custodes.findings.risk import REACH, Risk, risks
from custodes.findings.triage import Triage
from custodes.history import Access, AccessProfile

_ON_A_PAGE = 100
_DAYS = 60
_DAY = 86_400_000_000


@dataclass(frozen=True)
class PersonView:
    """The page content."""

    findings: Sequence[Finding]
    triages: dict[str, Triage]
    risk: Risk | None
    profile: AccessProfile | None
    """``None`` without history."""
    by_day: Markup
    by_hour: Markup
    by_risk: Markup
    """An actor's risk by day; empty for a subject, and without risk."""
    accesses: Sequence[Access]
    following: str | None
    """Position of the next page."""


def person_view(services: Services, kind: str, name: str, after: str | None, reach: ResourceScope) -> PersonView:
    """Reads the page content within the scope ``reach``; ``kind`` is ``actor`` or ``subject``.

    Raises ``ValueError`` for an invalid ``after``.
    """
    store, history = services.monitor.store, services.history
    before = _read(after)
    findings = store.page(_ON_A_PAGE, group={kind: name}).findings
    profile, accesses = None, list[Access]()
    if history is not None:
        # Two slow queries, in parallel.
        with ThreadPoolExecutor(1, "person") as other:
            pending = other.submit(history.profile, kind, name, within=reach.patterns)
            accesses = history.accesses(
                {kind: name}, before=before, limit=_ON_A_PAGE + 1, within=reach.patterns
            )  # fmt: skip
            profile = pending.result()
    newest = services.monitor.status.newest
    risk = _risk(services, name) if kind == "actor" else None
    shown = accesses[:_ON_A_PAGE]
    last = shown[-1] if len(accesses) > _ON_A_PAGE else None
    days = [(f"{day:%m-%d}", count) for day, count in profile.by_day[-_DAYS:]] if profile else []
    hours = [(f"{hour:02}", count) for hour, count in enumerate(profile.by_hour)] if profile else []
    return PersonView(
        findings=findings,
        triages=services.triage.of(one.id for one in findings),
        risk=risk,
        profile=profile,
        by_day=bars(days, say("Look-ups by day")),
        by_hour=bars(hours, say("Look-ups by hour of the day, in UTC")),
        by_risk=_over_time(risk, newest),
        accesses=shown,
        following=None if last is None else f"{last.time}:{last.position}:{last.source}",
    )


def _risk(services: Services, actor: str) -> Risk | None:
    newest = services.monitor.status.newest
    if newest is None:
        return None
    listed = risks(services.monitor.store.since(newest - REACH, group={"actor": actor}), newest)
    return next((risk for risk in listed if risk.actor == actor), None)


def _over_time(risk: Risk | None, newest: int | None) -> Markup:
    """Draws the risk at the end of each day, up to the day of the newest event."""
    if risk is None or newest is None:
        return Markup("")
    ends = [newest - ago * _DAY for ago in range(_DAYS - 1, -1, -1)]
    scores = [(f"{local(end):%m-%d}", round(risk.at(end))) for end in ends]
    return bars(scores, say("Risk by day"))


def _read(after: str | None) -> tuple[int, str, int] | None:
    """Parses ``following``: time, source and position of the last look-up shown."""
    if after is None:
        return None
    time, _, rest = after.partition(":")
    position, _, source = rest.partition(":")
    if not time.lstrip("-").isdigit() or not position.isdigit() or len(time) > 17 or len(position) > 18:
        raise ValueError(f"'{after}' is not a cursor of a page")
    return int(time), source, int(position)
