"""What was read of event files, and what was not, on standard error."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text

from custodes.cli.output import display_path, stderr
from custodes.config import format_duration
from custodes.findings import rfc3339
from custodes.sources.replay_coverage import RecordLocation, ReplayCoverage

_FEWEST_SHOWN = 0.1
"""Smallest percentage that is shown as a number."""


def place_and_line(place: RecordLocation, line: int) -> str:
    """Formats a line of a file."""
    return f"{display_path(Path(str(place['file'])))}:{line}"


def warn_of_losses(coverage: ReplayCoverage) -> bool:
    """Prints which files were not read to the end, and how many events were late.

    Returns whether everything could be read, and there was an event.
    """
    for place, fault in coverage.faults:
        stderr.print(Text(f"{place_and_line(place, fault.position)}: {fault.reason}: {fault.detail}"))
    if (late := late_warning(coverage)) is not None:
        stderr.print(Text(late))
    if not coverage.events:
        reason = "" if coverage.rejected else ": the input is empty"
        stderr.print(Text(f"no event was counted{reason}"))
    return not coverage.faults and coverage.events > 0


def late_warning(coverage: ReplayCoverage) -> str | None:
    """Returns a sentence about late events; ``None`` if there are none."""
    if not coverage.late or coverage.latest_event is None:
        return None
    percent = coverage.late_percent
    share = f"{percent:.1f}" if percent >= _FEWEST_SHOWN else f"less than {_FEWEST_SHOWN}"
    event = coverage.latest_event
    return (
        f"{share} % of the events ({coverage.late:,} of {coverage.events:,}) came too late to count in every window; "
        f"the largest jump is at {place_and_line(event.place, event.line)}: "
        f"{format_duration(event.about)} behind an earlier event; "
        f"use --allowed-lateness {format_duration(event.sufficient_lateness)}, or sort the file by time"
    )


def coverage_rows(coverage: ReplayCoverage) -> list[tuple[str, str]]:
    """Returns the figures of a replay with their names."""
    rejected = ", ".join(f"{number:,} {reason}" for reason, number in sorted(coverage.rejected.items()))
    first, last = rfc3339(coverage.earliest), rfc3339(coverage.latest)
    unread = f", {len(coverage.faults):,} not read to the end" if coverage.faults else ""
    return [
        ("files", f"{coverage.files:,}{unread}"),
        ("events", f"{coverage.events:,}"),
        ("from", first or "none"),
        ("to", last or "none"),
        ("rejected", rejected or "0"),
        ("late", f"{coverage.late:,}"),
        ("no access", f"{coverage.no_access:,}"),
        ("unmatched", f"{coverage.unmatched:,}"),
    ]
