"""A transaction that applies changes of the engine to stored findings.

All findings concerned are read in one go, changed in memory in order, and written in one go: a batch of a busy hour has
hundreds of changes, and one statement per step would take as long as counting.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from custodes._core import FindingChange
from custodes.database import tables
from custodes.encryption.keys import group_text
from custodes.findings.model import Finding
from custodes.findings.outbox import PendingEntry, record
from custodes.findings.rows import finding_of, row_of
from custodes.findings.silences import Silence, close_silently, silences_after
from custodes.findings.triage import Triage, closed_ones, hand_over
from custodes.rules import Rule

MOST_AT_ONCE = 500
"""Number of changes applied together: databases limit the size of a statement."""

_findings = tables.findings

# Built once: building a statement costs more than running it.
_BY_IDS = select(_findings).where(_findings.c.id.in_(bindparam("ids", expanding=True)))
# Every rule with every group instead of pairs, for which SQLite would scan the table.
_NEAR = (
    select(_findings)
    .where(_findings.c.rule_id.in_(bindparam("rules", expanding=True)))
    .where(_findings.c.group_digest.in_(bindparam("groups", expanding=True)))
    .where(_findings.c.held_until >= bindparam("from_"), _findings.c.held_from <= bindparam("until"))
)
_INSERT = insert(_findings)
_UPDATE = (
    update(_findings)
    .where(_findings.c.id == bindparam("known_as"))
    .values({name: bindparam(name) for name in _findings.c.keys() if name != "id"})  # noqa: SIM118 - not a dict
)
_DELETE = delete(_findings).where(_findings.c.id.in_(bindparam("ids", expanding=True)))

NewEntries = list[tuple[str, Finding]]


class FindingUpsert:
    """Findings as of a transaction, their pending writes, and the outbox entries they cause."""

    def __init__(self, connection: Connection, known_as: MutableMapping[str, str]) -> None:
        """``known_as`` maps ids of the engine to ids of the store where they differ."""
        self._connection = connection
        self._known_as = known_as
        self._stored: dict[str, Finding] = {}
        self._of_key: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        self._closed: dict[str, Triage] = {}
        self._new: dict[str, None] = {}
        self._changed: dict[str, None] = {}
        self._gone: list[str] = []
        self._pieces: list[PendingEntry] = []

    # ---- changes ----

    def apply(self, changes: Sequence[FindingChange], rules: Sequence[Rule]) -> NewEntries:
        """Applies changes in order. Returns what is new, as :meth:`.FindingStore.apply` does."""
        news: NewEntries = []
        told = [Finding.of(change, rules) for change in changes]
        self._read(told)
        for change, finding in zip(changes, told, strict=True):
            if change.kind == "merged":
                self._merge(finding, change.merged_into)
            else:
                news += self._take(finding, change.kind)
        self._write()
        return news

    def refresh(self, changes: Sequence[FindingChange], rules: Sequence[Rule]) -> NewEntries:
        """Applies changes of findings that only grew; a finding that is no longer stored is skipped."""
        told = [Finding.of(change, rules) for change in changes]
        self._read(told)
        for finding in told:
            stored = self._stored.get(self._name(finding))
            if stored is not None:
                self._grow(stored, finding)
        self._write()
        return []

    def close(self, ends: Iterable[tuple[str, int]]) -> NewEntries:
        """Closes findings that are still open: ids of the engine, and ends in microseconds."""
        named = [(self._known_as.pop(id_, id_), end) for id_, end in ends]
        self._read_ids([id_ for id_, _ in named])
        self._read_closed()
        for id_, end in named:
            stored = self._stored.get(id_)
            if stored is not None and stored.closed_at is None:
                self._ends(self._put(replace(stored, closed_at=end, held_until=end)))
        self._write()
        return []

    @property
    def announced(self) -> list[str]:
        """Ids of the findings with an outbox entry."""
        return [entry.finding.id for entry in self._pieces]

    def tell(self) -> None:
        """Writes the outbox entries, last of all, so that other writers wait as short as possible."""
        record(self._connection, self._pieces)

    # ---- one change ----

    def _take(self, told: Finding, kind: str) -> Iterator[tuple[str, Finding]]:
        stored = self._find(told)
        if stored is None:
            self._add(told)
            self._new[told.id] = None
            yield self._opens(told), told
            if kind == "closed":
                yield self._ends(told), told
            return
        if stored.id != told.id:
            self._known_as[told.id] = stored.id
        current = self._grow(stored, told)
        if current is not None:
            ends = current.closed_at is not None and stored.closed_at is None
            yield self._ends(current) if ends else "updated", current
        if kind == "closed":
            self._known_as.pop(told.id, None)

    def _grow(self, stored: Finding, told: Finding) -> Finding | None:
        """Returns a finding after an update; ``None`` if it is unchanged."""
        current = stored.updated_by(told)
        return None if current == stored else self._put(self._absorb(stored, current))

    def _absorb(self, stored: Finding, grown: Finding) -> Finding:
        """Extends a finding, and absorbs findings that it reaches; their rows are deleted.

        The engine reports such a merge itself, except one that it lost in a crash between two findings, which it then
        never saw apart when events were replayed in another order.
        """
        if (stored.held_from, stored.held_until) == (grown.held_from, grown.held_until):
            return grown
        for other in self._near(grown):
            if other.id != stored.id:
                self._remove(other.id, stored.id)
                self._known_as[other.id] = stored.id
                grown = replace(other, closed_at=None).updated_by(grown)
        return replace(grown, id=stored.id)

    def _merge(self, told: Finding, into: str | None) -> None:
        """Merges ``told`` into ``into``, whose combined figures follow in a separate change."""
        swallowed = self._known_as.pop(told.id, told.id)
        if into is not None and (survivor := self._known_as.get(into, into)) != swallowed:
            self._remove(swallowed, survivor)

    def _remove(self, swallowed: str, survivor: str) -> None:
        """Deletes a merged finding; its triage moves to the finding that absorbed it."""
        stored = self._stored.pop(swallowed, None)
        if stored is not None:
            self._pieces.append(PendingEntry("merged", stored))
            self._of_key[_key(stored)].remove(swallowed)
            self._changed.pop(swallowed, None)
            if swallowed in self._new:
                del self._new[swallowed]
            else:
                self._gone.append(swallowed)
        hand_over(self._connection, swallowed, survivor)
        self._closed.pop(swallowed, None)
        self._closed |= closed_ones(self._connection, [survivor])

    # ---- outbox entries ----

    @cached_property
    def _silences(self) -> list[Silence]:
        now = int(time.time() * 1e6)
        return [one for one in silences_after(self._connection, now) if one.since <= now]

    def _opens(self, finding: Finding) -> str:
        """Announces a new finding, or closes it if a silence matches."""
        silence = next((one for one in self._silences if one.covers(finding)), None)
        if silence is None:
            self._pieces.append(PendingEntry("opened", finding))
            return "opened"
        self._closed[finding.id] = close_silently(self._connection, finding, silence, int(time.time() * 1e6))
        return "silenced"

    def _ends(self, finding: Finding) -> str:
        """Announces that the condition of a finding no longer holds, if its opening was announced."""
        judged = self._closed.get(finding.id)
        if judged is None or judged.silence is None:
            self._pieces.append(PendingEntry("closed", finding))
        return "closed" if judged is None else "ended"

    # ---- rows ----

    def _name(self, told: Finding) -> str:
        return self._known_as.get(told.id, told.id)

    def _find(self, told: Finding) -> Finding | None:
        known = self._stored.get(self._name(told))
        return next(self._near(told), None) if known is None else known

    def _near(self, finding: Finding) -> Iterator[Finding]:
        """Returns the findings that are the same as this one, earliest first: same rule and group, with intervals that
        overlap or touch."""
        from_, until = _reach(finding)
        known = [self._stored[id_] for id_ in self._of_key[_key(finding)]]
        near = [one for one in known if one.held_until >= from_ and one.held_from <= until]
        return iter(sorted(near, key=lambda one: one.held_from))

    def _put(self, finding: Finding) -> Finding:
        self._stored[finding.id] = finding
        if finding.id not in self._new:
            self._changed[finding.id] = None
        return finding

    def _add(self, finding: Finding) -> None:
        if finding.id not in self._stored:
            self._stored[finding.id] = finding
            self._of_key[_key(finding)].append(finding.id)

    def _read(self, told: Sequence[Finding]) -> None:
        """Reads the stored findings that these changes concern, and all that they could reach."""
        if not told:
            return
        self._read_ids([self._name(finding) for finding in told])
        at_hand = [*told, *self._stored.values()]
        rules, groups = zip(*map(_key, at_hand), strict=True)
        begins, ends = zip(*map(_reach, at_hand), strict=True)
        near = {"rules": sorted(set(rules)), "groups": sorted(set(groups)), "from_": min(begins), "until": max(ends)}
        self._keep(_NEAR, near)
        if any(finding.closed_at is not None for finding in told):
            self._read_closed()

    def _read_ids(self, ids: Sequence[str]) -> None:
        self._keep(_BY_IDS, {"ids": ids})

    def _read_closed(self) -> None:
        """Returns the ids of the findings that were closed, among those that can end."""
        can_end = [one.id for one in self._stored.values() if one.closed_at is None]
        self._closed |= closed_ones(self._connection, can_end)

    def _keep(self, query: Any, values: dict[str, Any]) -> None:
        for row in self._connection.execute(query, values).mappings().all():
            self._add(finding_of(row))

    def _write(self) -> None:
        """Writes all changes and clears the cache."""
        if self._gone:
            self._connection.execute(_DELETE, {"ids": self._gone})
        if self._new:
            self._connection.execute(_INSERT, [row_of(self._stored[id_]) for id_ in self._new])
        if self._changed:
            rows = [row_of(self._stored[id_]) | {"known_as": id_} for id_ in self._changed]
            self._connection.execute(_UPDATE, rows)
        for held in (self._stored, self._of_key, self._closed, self._new, self._changed, self._gone):
            held.clear()


def _reach(finding: Finding) -> tuple[int, int]:
    """Returns the interval that another finding must touch to be the same."""
    return finding.held_from - finding.keep_open, finding.held_until + finding.keep_open


def _key(finding: Finding) -> tuple[str, str]:
    """Returns rule and group, as stored in the table."""
    return finding.rule_id, group_text(finding.group)
