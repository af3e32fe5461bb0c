"""The public form of a finding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from custodes._core import FindingChange
from custodes.rules import Rule

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(micros: int | None) -> str | None:
    """Formats microseconds since the epoch as RFC 3339 UTC, with milliseconds, or microseconds if there are any."""
    if micros is None:
        return None
    time = _EPOCH + timedelta(microseconds=micros)
    precision = "milliseconds" if micros % 1000 == 0 else "microseconds"
    return time.isoformat(timespec=precision).removesuffix("+00:00") + "Z"


@dataclass(frozen=True)
class Finding:
    """A rule's condition that held for a group over an interval. Times are microseconds since the epoch."""

    id: str
    rule_id: str
    rule: str
    """Title of the rule."""
    level: str
    group: dict[str, str]
    """Values of the group's fields, in normal form."""
    opened_at: int
    closed_at: int | None
    held_from: int
    held_until: int
    peak: float
    """Largest count or measure: an ``int`` if it is whole."""
    count: int
    threshold: float
    """Threshold at the opening."""
    keep_open: int
    """Longest gap between two runs of one finding, in microseconds."""
    expected: float | None = None
    """Count that the baseline expected for the group; ``None`` for a rule without a baseline."""
    spelling: dict[str, str] = field(default_factory=dict)
    """Values of the group's fields as the opening event had them, where they differ from the normal form."""

    @classmethod
    def of(cls, change: FindingChange, rules: Sequence[Rule]) -> Finding:
        """Returns the finding that a change of the engine describes."""
        rule = rules[change.rule]
        return cls(
            id=change.id,
            rule_id=rule.id,
            rule=rule.title,
            level=rule.level,
            group=dict(zip(rule.group_by, change.key, strict=True)),
            opened_at=change.opened_at,
            closed_at=change.closed_at,
            held_from=change.held_from,
            held_until=change.held_until,
            peak=change.peak,
            count=change.count,
            threshold=change.threshold if rule.baseline else rule.threshold,
            expected=change.expected,
            keep_open=rule.keep_open // timedelta(microseconds=1),
            spelling={
                name: written
                for name, written, normal in zip(rule.group_by, change.group, change.key, strict=True)
                if written != normal
            },
        )

    @property
    def shown(self) -> dict[str, str]:
        """Returns the group as people read it: the values as written."""
        return self.group | self.spelling

    @property
    def who(self) -> str:
        """Returns the group as text."""
        return ", ".join(f"{name} {value}" for name, value in self.shown.items()) or "everything"

    @property
    def times_threshold(self) -> float:
        """Peak divided by the threshold."""
        return self.peak / self.threshold if self.threshold > 0 else max(self.peak, 0)

    def joins(self, other: Finding) -> bool:
        """Returns whether both are the same finding: same rule and group, with intervals that overlap or touch."""
        return (
            self.rule_id == other.rule_id
            and self.group == other.group
            and self.held_from <= other.held_until + self.keep_open
            and other.held_from <= self.held_until + self.keep_open
        )

    def updated_by(self, other: Finding) -> Finding:
        """Returns this finding, under its id, updated with ``other``.

        A replay reports at most the known state, so neither the peak nor the count nor the end of the interval
        decreases.
        """
        closed_at = other.closed_at
        if self.closed_at is not None and other.held_until <= self.closed_at:
            closed_at = self.closed_at
        return replace(
            self,
            rule=other.rule,
            level=other.level,
            threshold=other.threshold,
            expected=other.expected,
            keep_open=other.keep_open,
            opened_at=min(self.opened_at, other.opened_at),
            held_from=min(self.held_from, other.held_from),
            held_until=max(self.held_until, other.held_until),
            closed_at=closed_at,
            peak=max(self.peak, other.peak),
            count=max(self.count, other.count),
        )

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Finding:
        """Returns a finding from the fields of :func:`vars` that were stored as JSON."""
        return cls(**current_names(fields))

    def as_dict(self) -> dict[str, Any]:
        """The public fields, as in `replay`, API and exports; ``expected`` only for a rule with a baseline."""
        fields = {
            "id": self.id,
            "rule_id": self.rule_id,
            "rule": self.rule,
            "level": self.level,
            "group": self.shown,
            "opened_at": rfc3339(self.opened_at),
            "closed_at": rfc3339(self.closed_at),
            "peak": self.peak,
            "count": self.count,
            "threshold": self.threshold,
        }
        return fields if self.expected is None else {**fields, "expected": round(self.expected, 3)}


def current_names(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a stored finding; before 0.2.0 ``expected`` was called ``usual``."""
    return {"expected" if name == "usual" else name: value for name, value in fields.items()}
