"""Findings in words, the same on pages and in alerts."""

from __future__ import annotations

from typing import Protocol

from custodes.config import format_duration
from custodes.findings.model import Finding
from custodes.rules import Rule


def amount(number: float) -> str:
    """Formats a count or a measure."""
    return f"{int(number):,}" if number == int(number) else f"{number:,.1f}"


def span(seconds: float) -> str:
    """Formats a duration."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{max(seconds, 0):.0f} s"


class Say(Protocol):
    """Translates a message and fills in the values for ``%(name)s``."""

    def __call__(self, message: str, /, **values: object) -> str: ...


def in_english(message: str, /, **values: object) -> str:
    """The identity translation: the language in which messages are written."""
    return message % values if values else message


def reason(finding: Finding, rule: Rule | None, say: Say = in_english) -> str:
    """Returns the reason for the finding, in one sentence."""
    counted = _counted(rule, finding.peak, say)
    if rule:
        counted = say("%(counted)s within %(span)s", counted=counted, span=format_duration(rule.timespan))
    parts = [counted]
    times, threshold = f"{finding.times_threshold:.1f}", amount(finding.threshold)
    parts.append(say("%(times)s times the threshold of %(threshold)s", times=times, threshold=threshold))
    if finding.expected is not None:
        parts.append(say("%(expected)s expected", expected=amount(finding.expected)))
    goes_on = say("It is ongoing.") if finding.closed_at is None else say("It lasted %(span)s.", span=_lasted(finding))
    return say("%(why)s. %(until)s", why=say(", ").join(parts), until=goes_on)


def _counted(rule: Rule | None, peak: float, say: Say) -> str:
    count = amount(peak)
    if rule is None:
        return say("Counted: %(count)s", count=count)
    if rule.follows and not rule.parts:
        if rule.measure is None:
            return say("%(count)s findings", count=count)
        return say("Findings: %(measure)s %(count)s", measure=rule.measure.summary, count=count)
    if rule.measure is not None or rule.parts:
        return f"{rule.counts[:1].upper()}{rule.counts[1:]}: {count}"
    if rule.distinct is None:
        return say("%(count)s events", count=count)
    field = rule.distinct.replace("_", " ")
    return say("%(count)s different %(values)s", count=count, values=say(field if field.endswith("s") else f"{field}s"))


def _lasted(finding: Finding) -> str:
    seconds = ((finding.closed_at or finding.held_until) - finding.opened_at) / 1e6
    return span(max(seconds, 1))
