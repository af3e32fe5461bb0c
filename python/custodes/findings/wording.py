"""Findings in words, the same on a page and in an alert."""

from __future__ import annotations

from custodes.config import format_duration
from custodes.findings.model import Finding
from custodes.rules import Rule


def amount(number: float) -> str:
    """A count, or a measure, for people."""
    return f"{int(number):,}" if number == int(number) else f"{number:,.1f}"


def span(seconds: float) -> str:
    """A stretch of time for people."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def reason(finding: Finding, rule: Rule | None) -> str:
    """Why it fired, in a sentence."""
    counted = _counted(rule, finding.peak)
    within = f" within {format_duration(rule.timespan)}" if rule else ""
    times = f", {finding.times_threshold:.1f} times the threshold of {amount(finding.threshold)}"
    usual = "" if finding.usual is None else f"; {amount(finding.usual)} would be usual"
    until = "It goes on." if finding.closed_at is None else f"It lasted {_lasted(finding)}."
    return f"{counted}{within}{times}{usual}. {until}"


def _counted(rule: Rule | None, peak: float) -> str:
    if rule is not None and rule.follows and not rule.parts:
        return f"{amount(peak)} findings" if rule.measure is None else f"Findings: {rule.measure.said} {amount(peak)}"
    if rule is None or rule.measure is not None or rule.parts:
        what = rule.counts if rule else "counted"
        return f"{what[:1].upper()}{what[1:]}: {amount(peak)}"
    if rule.distinct is None:
        return f"{amount(peak)} events"
    return f"{amount(peak)} different {rule.distinct.replace('_', ' ')}{'s' if not rule.distinct.endswith('s') else ''}"


def _lasted(finding: Finding) -> str:
    seconds = ((finding.closed_at or finding.held_until) - finding.opened_at) / 1e6
    return span(seconds) if seconds >= 1 else "a moment"
