"""Whose names a visitor sees: what the role allows, as far as the account's resources go."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from custodes.accounts.roles import Permission
from custodes.console.auth.session import Caller
from custodes.evidence.contributing_events import Contribution
from custodes.evidence.entries import EventEntry, LogEntry
from custodes.findings import Finding
from custodes.history import History


def sees_every_name(visitor: Caller) -> bool:
    """Whether no name is kept from somebody who may see names."""
    return visitor.may(Permission.REVEAL) and visitor.reach.is_everything


def sees_who(visitor: Caller, finding: Finding, behind: Callable[[Finding], Contribution | None]) -> bool:
    """Whether somebody sees whom a finding is about: it must be about one of their resources.

    ``behind`` has its events, and is asked where it matters; where they are not known, only a group says what it is
    about.
    """
    if sees_every_name(visitor):
        return True
    if not visitor.may(Permission.REVEAL):
        return False
    if "resource" in finding.group:
        return visitor.reach.covers(finding.group["resource"])
    found = behind(finding)
    return found is not None and any(visitor.reach.covers(resource) for resource, _ in found.resources())


def sees_all_of_it(visitor: Caller, finding: Finding, found: Contribution | None, entries: Iterable[LogEntry]) -> bool:
    """Whether somebody may have a finding's evidence: each event among its entries must be of their resources.

    What those are of is known from what was ``found`` behind it; an event that is not there any more is not theirs.
    """
    if found is None or not sees_who(visitor, finding, lambda _: found):
        return False
    theirs = {(one.access.source, one.access.position) for one in found.within(visitor.reach.covers).events}
    return all((entry.source, entry.position) in theirs for entry in entries if isinstance(entry, EventEntry))


def is_within(history: History | None, visitor: Caller, kind: str, name: str) -> bool:
    """Whether somebody may see who this is: they did, or had done to them, what the visitor may look into."""
    if visitor.reach.is_everything:
        return True
    return history is not None and history.knows(kind, name, visitor.reach.patterns)
