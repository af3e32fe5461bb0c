"""The rules of a configuration and the plans made of them: one for an engine that counts them all, or two kinds where
several workers share the counting.

A rule is counted by whoever reads the events if its groups lie within the source's partitions: if all fields that the
records are keyed by are among its ``group-by``. The events of the others are repartitioned by group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from custodes.config import Fault
from custodes.rules.model import Rule

_LARGEST_EVENT = 1 << 30
"""What is handed on was small enough for the worker that read it."""


def sharing_faults(rules: Sequence[Rule], keyed_by: frozenset[str]) -> dict[str, Fault]:
    """By rule id, what several workers cannot count: findings of findings that are not all with the same worker."""
    by_id = {rule.id: rule for rule in rules}
    faults: dict[str, Fault] = {}
    for rule in rules:
        apart = [
            one.title for one in (rule, *(by_id[id_] for id_ in sorted(rule.follows))) if not _stays(one, keyed_by)
        ]
        if rule.follows and apart:
            faults[rule.id] = Fault(
                f"'{rule.title}' counts findings, but those of '{apart[0]}' are spread over workers",
                rule.file, rule.line,
                hint="have both grouped by what the records are keyed by (workers.keyed_by)",
            )  # fmt: skip
    return faults


def _stays(rule: Rule, keyed_by: frozenset[str]) -> bool:
    """Whether a rule's groups lie within the source's partitions."""
    grouped = [branch.group_by for branch in rule.branches] or [rule.group_by]
    return bool(keyed_by) and all(keyed_by <= set(fields) for fields in grouped)


class PlanWriter(Protocol):
    """:func:`~custodes.rules.build_plan` with the settings that are the same in all plans."""

    def __call__(
        self,
        rules: Sequence[Rule],
        *,
        handed_on: Sequence[Rule] = ...,
        shares: int | None = ...,
        among_workers: Mapping[str, Any] = ...,
    ) -> str: ...


@dataclass(frozen=True)
class Ruleset:
    """Rules, and how they become plans."""

    rules: Sequence[Rule]
    write: PlanWriter
    keyed_by: frozenset[str] = frozenset()
    """The fields from which the partition of a record follows; none if it does not."""

    def plan(self) -> str:
        """For an engine that counts by itself."""
        return self.write(self.rules)

    @property
    def where_read(self) -> list[Rule]:
        """The rules that are counted by whoever reads the events."""
        return [rule for rule in self.rules if self._stays(rule)]

    @property
    def by_share(self) -> list[Rule]:
        """Those that are counted by share of the groups."""
        return [rule for rule in self.rules if not self._stays(rule)]

    def _stays(self, rule: Rule) -> bool:
        return _stays(rule, self.keyed_by)

    def plan_where_read(self, key: str, shares: int) -> str:
        """For the engine of a source partition. ``key`` is that of the fingerprints, in hexadecimal digits."""
        among = {"fingerprint_key": key}
        return self.write(self.where_read, handed_on=self.by_share, shares=shares, among_workers=among)

    def plan_by_share(self, key: str, share: int, shares: int) -> str:
        """For the engine of a share of the groups."""
        among = {
            "fingerprint_key": key,
            "share": {"partition": share, "of": shares},
            "max_record_bytes": _LARGEST_EVENT,
            "earliest_s": 1,
            "history": False,
        }
        return self.write(self.by_share, among_workers=among)
