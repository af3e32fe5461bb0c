"""Findings and notifications that the database refuses: they are put aside and reported, and all others are stored."""

from __future__ import annotations

from collections import OrderedDict

from custodes.findings.model import Finding
from custodes.findings.shortfalls import Shortfall
from custodes.log_events import FindingRefused, NotificationRefused, cause_of

_MOST_REMEMBERED = 10_000


class RefusedRows:
    """Counts the refused findings and notifications, and logs each once."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, None] = OrderedDict()
        self.findings = 0
        """Number of findings refused since the start."""
        self.notifications = 0
        """Number of notifications refused since the start."""

    def finding(self, finding: Finding, error: BaseException) -> Shortfall:
        """Reports a finding. Returns its shortfall to be stored, the same one after a restart."""
        if self._is_new(finding.id):
            self.findings += 1
            FindingRefused(id=finding.id, rule=finding.rule, error=_without_values(error)).emit()
        return Shortfall("refused", finding.rule_id, finding.opened_at, finding.held_until, groups=1, values=0)

    def notification(self, finding_id: str, error: BaseException) -> None:
        """Reports the notification about a finding."""
        self.notifications += 1
        NotificationRefused(finding=finding_id, error=_without_values(error)).emit()

    def _is_new(self, id_: str) -> bool:
        if id_ in self._known:
            self._known.move_to_end(id_)
            return False
        self._known[id_] = None
        if len(self._known) > _MOST_REMEMBERED:
            self._known.popitem(last=False)
        return True


def _without_values(error: BaseException) -> str:
    """Returns the cause without the refused values, which may be names."""
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, UnicodeEncodeError):
        return f"{type(cause).__name__}: {cause.reason}"
    return f"{type(cause).__name__}: {cause_of(cause)}"
