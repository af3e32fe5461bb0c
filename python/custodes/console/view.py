"""What the overview page shows, as data made for reading."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from custodes import __version__
from custodes.console.naming import Naming
from custodes.findings import Finding
from custodes.findings.wording import span
from custodes.monitor import Monitor

_SHOWN = 50


@dataclass(frozen=True)
class Row:
    """A finding as a line of a table."""

    id: str
    level: str
    rule: str
    group: str
    opened_at: str
    closed_at: str | None
    peak: str
    threshold: str
    times: str
    """Peak as a multiple of the threshold."""


@dataclass(frozen=True)
class Tile:
    """A figure with its name."""

    name: str
    value: str
    warns: bool = False


@dataclass(frozen=True)
class Overview:
    """The whole page."""

    version: str
    source: str
    state: str
    tiles: list[Tile]
    open: list[Row]
    closed: list[Row]
    at: str


def overview(monitor: Monitor, naming: Naming) -> Overview:
    """Reads the page's content from the monitor and its store."""
    status = monitor.status
    open_, shown = monitor.store.pressing(_SHOWN)
    recent = [finding for finding in monitor.store.page(_SHOWN).findings if finding.closed_at is not None]
    state = "ended" if status.finished else "live" if status.ready else "waiting for a stream"
    if monitor.failure is not None:
        state = "failed"
    behind = None if status.watermark is None else status.at - status.watermark / 1e6
    return Overview(
        version=__version__,
        source=status.source,
        state=state,
        tiles=[
            Tile("open findings", f"{open_:,}", warns=open_ > 0),
            Tile("events / s", f"{status.events_per_second:,.0f}"),
            Tile("events", f"{status.events:,}"),
            Tile("lag, records", f"{status.lag_records:,}", warns=status.lag_records > 100_000),
            Tile("watermark behind", "–" if behind is None else span(behind)),
            Tile("rejected", f"{status.rejected:,}", warns=status.rejected > 0),
            Tile("late", f"{status.late:,}"),
        ],
        open=[_row(finding, naming) for finding in shown],
        closed=[_row(finding, naming) for finding in recent],
        at=datetime.fromtimestamp(status.at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
    )


def _row(finding: Finding, naming: Naming) -> Row:
    return Row(
        id=finding.id,
        level=finding.level,
        rule=finding.rule,
        group=naming.who(finding),
        opened_at=_minute(finding.opened_at),
        closed_at=None if finding.closed_at is None else _minute(finding.closed_at),
        peak=f"{finding.peak:,}",
        threshold=f"{finding.threshold:,}",
        times=f"{finding.times_threshold:.1f}×",
    )


def _minute(micros: int) -> str:
    return datetime.fromtimestamp(micros / 1e6, UTC).strftime("%Y-%m-%d %H:%M")
