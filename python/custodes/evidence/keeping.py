"""Keeping evidence: soon after a finding opens, and whenever it has changed, what is behind it goes into the log.

It is done beside the counting, and slowly where there is much: nothing waits for it, and what waits for it is in the
history meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

import duckdb
import structlog

from custodes.evidence.anchors import Anchors
from custodes.evidence.behind import EventsBehind
from custodes.evidence.entries import Entry, EventEntry, FindingEntry, RuleEntry, key_of
from custodes.evidence.retention import Retention
from custodes.evidence.vault import Vault
from custodes.findings import Finding
from custodes.findings.store import FindingStore, StoreError

log = structlog.get_logger("custodes.evidence")

_EVERY_SECONDS = 2.0
_GROWN_SECONDS = 300.0
"""How often findings that only grew are looked at."""
_TIDY_SECONDS = 3600.0
_REST = 3.0
"""So many times as long as a finding took, nothing is done: a storm of findings must not become one of questions."""
_MOST_REST_SECONDS = 2.0
_REACH = 35 * 86_400_000_000
"""How far back findings are looked at after a start: what the history has of earlier ones is not much."""


class Keeper:
    """Fills a vault. :meth:`hear` is the monitor's; the rest is done in a thread of its own."""

    def __init__(
        self,
        vault: Vault,
        store: FindingStore,
        behind: EventsBehind,
        retention: Retention,
        anchors: Anchors,
        *,
        is_alone: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``is_alone``: whether the store has no other processes' findings, whose events are in their histories."""
        self.vault = vault
        self._store, self._behind = store, behind
        self._retention, self._anchors = retention, anchors
        self._is_alone = is_alone
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: dict[str, None] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="evidence")
        self.failures = 0
        """Tries in a row that came to nothing."""

    def start(self) -> None:
        self._thread.start()

    def hear(self, finding: Finding) -> None:
        """Takes in that a finding opened, or closed."""
        with self._lock:
            self._waiting[finding.id] = None

    @property
    def waiting(self) -> int:
        """How many findings are not in the log as they are."""
        return len(self._waiting)

    @property
    def unanchored(self) -> int:
        """How many anchors could not be told the last head."""
        return len(self._anchors.failing)

    def _run(self) -> None:
        grown_at = tidy_at = time.monotonic()
        self._try(self._look_back)
        while not self._stop.wait(_EVERY_SECONDS):
            now = time.monotonic()
            if now - grown_at >= _GROWN_SECONDS:
                self._try(self._look_at_open_ones)
                grown_at = now
            self._try(self.catch_up)
            if now - tidy_at >= _TIDY_SECONDS:
                self._try(self._tidy)
                tidy_at = now
            self._anchors.step(self.vault.log.head)

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (OSError, ValueError, StoreError, duckdb.Error) as error:
            if not self.failures:
                log.error("evidence cannot be kept; it waits in the history", error=str(error).partition("\n")[0])
            self.failures += 1
        else:
            if self.failures:
                self.failures = 0
                log.info("evidence can be kept again")

    def _look_back(self) -> None:
        """After a start: what was heard of before the end, and did not get into the log."""
        if self._is_alone:
            for finding in self._store.since(self._micros() - _REACH):
                self.hear(finding)

    def _look_at_open_ones(self) -> None:
        with self._lock:
            self._waiting |= dict.fromkeys(
                finding.id for finding in self._store.page(10_000, open_only=True).findings
                if self._is_alone or self.vault.log.runs(key_of(finding.id))
            )  # fmt: skip

    def _tidy(self) -> None:
        self._retention.step(self._micros())

    def catch_up(self, rest: float = _REST) -> None:
        """Writes what waits by now. Raises what the disk, the database and the history raise; the rest waits on."""
        with self._lock:
            waiting = list(self._waiting)
        if waiting:
            self._behind.bring_up_to_date()
        for finding_id in waiting:
            if self._stop.is_set():
                return
            begun = time.monotonic()
            with self._lock:
                self._waiting.pop(finding_id, None)
            try:
                if (finding := self._store.get(finding_id)) is not None:
                    self.record(finding)
            except BaseException:
                with self._lock:
                    self._waiting.setdefault(finding_id)
                raise
            self._stop.wait(min(rest * (time.monotonic() - begun), _MOST_REST_SECONDS))

    def record(self, finding: Finding) -> None:
        """Puts down how a finding stands, and the events behind it that are not in the log yet."""
        before = self.vault.about(finding.id)
        told = [entry for entry in before if isinstance(entry, FindingEntry)]
        if told and told[-1].finding == finding.as_dict():
            return
        known = {(entry.source, entry.position) for entry in before if isinstance(entry, EventEntry)}
        behind = self._behind.of(finding)
        entries: list[Entry] = []
        if behind is not None:
            each = (EventEntry.of(event) for event in behind.events)
            entries += [entry for entry in each if (entry.source, entry.position) not in known]
        events = len(known) + len(entries)
        rule = next((rule for rule in self._behind.ruleset.rules if rule.id == finding.rule_id), None)
        if rule is not None and (by := RuleEntry.of(rule)) not in before:
            entries.append(by)
        entries.append(FindingEntry.of(finding, events, is_whole=behind is not None and behind.is_whole))
        self.vault.add(finding.id, entries, self._micros())

    def _micros(self) -> int:
        return int(self._clock() * 1e6)

    def close(self) -> None:
        """Writes what waits, as far as can be, and ends."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._stop.clear()
        with suppress(OSError, ValueError, StoreError, duckdb.Error):
            self.catch_up(rest=0)
        self._anchors.step(self.vault.log.head, at_once=True)
        self.vault.close()
