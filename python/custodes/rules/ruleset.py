"""The rules of a configuration and their plans: one plan for a single engine, or two kinds of plans for several
workers.

The worker that reads an event counts it for rules whose groups lie within the source's partitions: all fields that
determine the partition of a record are in their ``group-by``. The events of other rules are repartitioned by group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from custodes.config import Fault
from custodes.config.normal_forms import NormalForms
from custodes.rules.model import Rule

_LARGEST_EVENT = 1 << 30
"""Repartitioned events were within the limit of the worker that read them."""


def sharing_faults(rules: Sequence[Rule], keyed_by: frozenset[str]) -> dict[str, Fault]:
    """Returns faults, by rule id, of rules that several workers cannot evaluate: they count findings of others."""
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
                hint="group both rules by the fields that determine the partition of a record (workers.keyed_by)",
            )  # fmt: skip
    return faults


def _stays(rule: Rule, keyed_by: frozenset[str]) -> bool:
    """Returns whether a rule's groups lie within the source's partitions."""
    grouped = [branch.group_by for branch in rule.branches] or [rule.group_by]
    return bool(keyed_by) and all(keyed_by <= set(fields) for fields in grouped)


class PlanWriter(Protocol):
    """:func:`~custodes.rules.build_plan` with the settings that all plans share."""

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
    """Rules, and the settings of their plans."""

    rules: Sequence[Rule]
    write: PlanWriter
    keyed_by: frozenset[str] = frozenset()
    """Fields that determine the partition of a record; empty if no fields do."""
    forms: NormalForms = field(default_factory=NormalForms)
    """Normal forms of the fields' values."""

    def plan(self) -> str:
        """Returns the plan for a single engine."""
        return self.write(self.rules)

    @property
    def where_read(self) -> list[Rule]:
        """The rules whose events are counted where they are read."""
        return [rule for rule in self.rules if self._stays(rule)]

    @property
    def by_share(self) -> list[Rule]:
        """The rules whose events are repartitioned and counted by share."""
        return [rule for rule in self.rules if not self._stays(rule)]

    def _stays(self, rule: Rule) -> bool:
        return _stays(rule, self.keyed_by)

    def plan_where_read(self, key: str, shares: int) -> str:
        """Returns the plan for a source partition. ``key`` is the fingerprint key in hexadecimal digits."""
        among = {"fingerprint_key": key}
        return self.write(self.where_read, handed_on=self.by_share, shares=shares, among_workers=among)

    def plan_by_share(self, key: str, share: int, shares: int) -> str:
        """Returns the plan for a share of the groups."""
        among = {
            "fingerprint_key": key,
            "share": {"partition": share, "of": shares},
            "max_record_bytes": _LARGEST_EVENT,
            "earliest_s": 1,
            "history": False,
        }
        return self.write(self.by_share, among_workers=among)
