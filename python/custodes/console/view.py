"""What the overview page shows, as data made for reading."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from custodes.console.parts import Parts
from custodes.findings import Finding
from custodes.findings.triage import Triage
from custodes.findings.wording import span

_SHOWN = 50


@dataclass(frozen=True)
class Tile:
    """A figure with its name."""

    name: str
    value: str
    means: str
    warns: bool = False


@dataclass(frozen=True)
class Overview:
    """The whole page."""

    source: str
    state: str
    tiles: list[Tile]
    to_judge: int
    findings: list[Finding]
    """The most urgent of them first."""
    stands: dict[str, Triage]
    at: str


def overview(parts: Parts) -> Overview:
    """Reads the page's content from the monitor and its store."""
    monitor = parts.monitor
    status = monitor.status
    to_judge, shown = monitor.store.to_judge(_SHOWN)
    going_on = sum(monitor.store.open_counts().values())
    state = "ended" if status.finished else "live" if status.ready else "waiting for a stream"
    if monitor.failure is not None:
        state = "failed"
    behind = None if status.watermark is None else status.at - status.watermark / 1e6
    late = "later than their sources' clocks allow for; they count where their windows still are"
    return Overview(
        source=status.source,
        state=state,
        tiles=[
            Tile("to judge", f"{to_judge:,}", "findings that nobody has closed", warns=to_judge > 0),
            Tile("going on", f"{going_on:,}", "of these, findings whose condition still holds", warns=going_on > 0),
            Tile("events / s", f"{status.events_per_second:,.0f}", "look-ups counted in a second"),
            Tile("events", f"{status.events:,}", "look-ups counted since the start"),
            Tile(
                "lag, records",
                f"{status.lag_records:,}",
                "records that wait to be read",
                warns=status.lag_records > 100_000,
            ),
            Tile(
                "behind", "–" if behind is None else span(behind), "how long ago all events up to then had been counted"
            ),
            Tile(
                "rejected",
                f"{status.rejected:,}",
                "records that are no events, and are kept aside",
                status.rejected > 0,
            ),
            Tile("late", f"{status.late:,}", late),
        ],
        to_judge=to_judge,
        findings=shown,
        stands=parts.triage.of(one.id for one in shown),
        at=datetime.fromtimestamp(status.at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
    )
