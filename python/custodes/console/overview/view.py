"""View model of the Overview page."""

from __future__ import annotations

from dataclasses import dataclass

from custodes.console.localization import say
from custodes.console.services import Services
from custodes.findings import Finding
from custodes.findings.triage import Triage
from custodes.findings.wording import span

_SHOWN = 50


@dataclass(frozen=True)
class Tile:
    """A value with its label and explanation."""

    name: str
    value: str
    means: str
    warns: bool = False


@dataclass(frozen=True)
class Overview:
    """The page content."""

    source: str
    state: str
    tiles: list[Tile]
    unreviewed: int
    findings: list[Finding]
    """Unreviewed findings, most urgent first."""
    triages: dict[str, Triage]
    at: int
    """Time of the monitor's clock, in microseconds since the epoch."""


def overview(services: Services) -> Overview:
    """Reads the page's content from the monitor and its store."""
    monitor = services.monitor
    status = monitor.status
    unreviewed, shown = monitor.store.unreviewed(_SHOWN)
    ongoing = sum(monitor.store.open_counts().values())
    state = "ended" if status.finished else "live" if status.ready else "waiting for a stream"
    if monitor.failure is not None:
        state = "failed"
    delay = None if status.watermark is None else status.at - status.watermark / 1e6
    return Overview(
        source=status.source,
        state=state,
        tiles=[
            Tile(say("unreviewed"), f"{unreviewed:,}", say("findings that are not closed"), unreviewed > 0),
            Tile(say("ongoing"), f"{ongoing:,}", say("findings whose condition still holds"), ongoing > 0),
            Tile(say("events / s"), f"{status.events_per_second:,.0f}", say("look-ups counted per second")),
            Tile(say("events"), f"{status.events:,}", say("look-ups counted since the start")),
            Tile(
                say("lag, records"),
                "–" if status.lag_records is None else f"{status.lag_records:,}",
                say("records that are not read yet"),
                status.lag_records is None or status.lag_records > 100_000,
            ),
            Tile(
                say("processing delay"),
                "–" if delay is None else span(delay),
                say("current time minus the watermark, the event time up to which counts are complete"),
            ),
            Tile(
                say("rejected"),
                f"{status.rejected:,}",
                say("records that are not valid events; dead letters keep a copy"),
                status.rejected > 0,
            ),
            Tile(say("late"), f"{status.late:,}", say("events that arrived after the watermark had passed their time")),
        ],
        unreviewed=unreviewed,
        findings=shown,
        triages=services.triage.of(one.id for one in shown),
        at=int(status.at * 1e6),
    )
