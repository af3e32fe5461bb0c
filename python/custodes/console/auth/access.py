"""Access to names: limited by the permissions of the role and the resource scope of the account."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from custodes.accounts.roles import Permission
from custodes.console.auth.session import Caller
from custodes.evidence.contributing_events import Contribution
from custodes.evidence.entries import EventEntry, LogEntry
from custodes.findings import Finding
from custodes.history import History


def may_see_all_names(visitor: Caller) -> bool:
    """Returns whether the visitor may see all names."""
    return visitor.may(Permission.REVEAL) and visitor.reach.is_everything


def may_see_names(visitor: Caller, finding: Finding, contribution_of: Callable[[Finding], Contribution | None]) -> bool:
    """Returns whether the visitor may see the names in a finding: it must concern a resource in the visitor's scope.

    ``contribution_of`` returns the events of the finding. It is called only if the group has no resource.
    """
    if may_see_all_names(visitor):
        return True
    if not visitor.may(Permission.REVEAL):
        return False
    if "resource" in finding.group:
        return visitor.reach.covers(finding.group["resource"])
    found = contribution_of(finding)
    return found is not None and any(visitor.reach.covers(resource) for resource, _ in found.resources())


def may_see_evidence(
    visitor: Caller, finding: Finding, found: Contribution | None, entries: Iterable[LogEntry]
) -> bool:
    """Returns whether the visitor may see all evidence of a finding: each event must be in the visitor's scope.

    The resources of the events are looked up in ``found``; an event that is no longer there is out of scope.
    """
    if found is None or not may_see_names(visitor, finding, lambda _: found):
        return False
    permitted = {(one.access.source, one.access.position) for one in found.within(visitor.reach.covers).events}
    return all((entry.source, entry.position) in permitted for entry in entries if isinstance(entry, EventEntry))


def is_in_scope(history: History | None, visitor: Caller, kind: str, name: str) -> bool:
    """Returns whether a person has any event in the visitor's scope."""
    if visitor.reach.is_everything:
        return True
    return history is not None and history.knows(kind, name, visitor.reach.patterns)
