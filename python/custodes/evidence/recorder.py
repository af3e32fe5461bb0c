"""Recording: soon after a finding opens, and whenever it changes, its events are written to the evidence log.

Recording runs in parallel to counting and yields to it under load. Counting never waits for it; events that are not
recorded yet are in the history.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import duckdb

from custodes.evidence.anchors import Anchors
from custodes.evidence.contributing_events import ContributingEvents
from custodes.evidence.entries import EventEntry, FindingEntry, LogEntry, PartEntry, RuleEntry, key_of
from custodes.evidence.log_store import EvidenceStore
from custodes.evidence.retention import Retention
from custodes.findings import Finding
from custodes.findings.store import FindingStore, StoreError
from custodes.history import HistoryWriter
from custodes.log_events import EvidenceFailed, EvidenceRecovered, cause_of
from custodes.retry import Retry
from custodes.rules.model import LEVELS

_EVERY_SECONDS = 2.0
_GROWN_SECONDS = 300.0
"""Interval at which findings that only grew are checked."""
_TIDY_SECONDS = 3600.0
_ROUND_SECONDS = 60.0
"""Longest time spent on evidence before anchors and retention get their turn."""
_CLOSE_SECONDS = 5.0
_REST = 4.0
"""Pause after a finding, in multiples of the time it took."""
_LONG_REST = 49.0
"""Pause in a busy process, which limits evidence to a fiftieth of the time."""
_BUSY = 0.5
"""Fraction of its cores that a busy process uses."""
_MOST_REST_SECONDS = 10.0
_PATIENCE_SECONDS = 5.0
"""Longest wait for the history to write by itself, which is sooner under load."""
_REACH = 35 * 86_400_000_000
"""Age of findings that are checked after a start; the history has little of older ones."""


@dataclass(frozen=True)
class _PendingFinding:
    """The requirements of a finding that waits for recording."""

    rows: int
    """Number of history rows that must be written first."""
    since: float
    rank: int
    """Rank of its level."""


class _Load:
    """CPU usage of this process."""

    def __init__(self) -> None:
        self._cores = len(os.sched_getaffinity(0))
        self._at, self._used = time.monotonic(), time.process_time()

    def since_last(self) -> float:
        """Returns the fraction of its cores used since the last call."""
        at, used = time.monotonic(), time.process_time()
        part = (used - self._used) / max(at - self._at, 1e-3) / self._cores
        self._at, self._used = at, used
        return part


class EvidenceRecorder:
    """Fills the evidence log. :meth:`enqueue` is called by the monitor; all other work runs in its own thread."""

    def __init__(
        self,
        evidence_store: EvidenceStore,
        store: FindingStore,
        behind: ContributingEvents,
        writer: HistoryWriter,
        retention: Retention,
        anchors: Anchors,
        *,
        is_alone: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``is_alone``: whether the store has no findings of other processes, whose events are in other histories."""
        self.evidence_store = evidence_store
        self._store, self._behind, self._writer = store, behind, writer
        self._retention, self._anchors = retention, anchors
        self._is_alone = is_alone
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: dict[str, _PendingFinding] = {}
        self._load = _Load()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="evidence")
        self._retry = Retry(_EVERY_SECONDS)

    @property
    def failures(self) -> int:
        """Number of failed attempts since the last one that succeeded."""
        return self._retry.failures

    def start(self) -> None:
        self._thread.start()

    def enqueue(self, finding: Finding) -> None:
        """Queues a finding that opened or closed; its events are in the history already."""
        with self._lock:
            self._waiting[finding.id] = _PendingFinding(
                self._writer.taken, time.monotonic(), LEVELS.index(finding.level)
            )

    @property
    def waiting(self) -> int:
        """Number of findings whose latest state is not in the log."""
        return len(self._waiting)

    @property
    def unanchored(self) -> int:
        """Number of anchors to which the last head could not be published."""
        return len(self._anchors.failing)

    def _run(self) -> None:
        grown_at = tidy_at = time.monotonic()
        self._try(self.look_back)
        while not self._stop.wait(_EVERY_SECONDS):
            now = time.monotonic()
            if now - grown_at >= _GROWN_SECONDS:
                self._try(self._look_at_open_ones)
                grown_at = now
            self._try(lambda: self.catch_up(within=_ROUND_SECONDS))
            if now - tidy_at >= _TIDY_SECONDS:
                self._try(self._tidy)
                tidy_at = now
            self._anchors.step(self.evidence_store.log.head)

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (OSError, ValueError, StoreError, duckdb.Error) as error:
            if self._retry.failed():
                EvidenceFailed(error=cause_of(error)).emit()
        else:
            if self._retry.succeeded():
                EvidenceRecovered().emit()

    def look_back(self) -> None:
        """Queues findings of the last run that may not be in the log."""
        if self._is_alone:
            for finding in self._store.since(self._micros() - _REACH):
                self.enqueue(finding)

    def _look_at_open_ones(self) -> None:
        for finding in self._store.page(10_000, open_only=True).findings:
            if self._is_alone or self.evidence_store.log.runs(key_of(finding.id)):
                self.enqueue(finding)

    def _tidy(self) -> None:
        self._retention.step(self._micros())

    def catch_up(self, *, at_once: bool = False, within: float = float("inf")) -> None:
        """Records findings whose events are all in the history's files; with ``at_once`` all findings, without pauses.

        The most severe come first. Stops after ``within`` seconds; the remaining findings stay queued. Raises the
        errors of the disk, the database and the history.
        """
        ends = time.monotonic() + within
        with self._lock:
            waiting = sorted(self._waiting.items(), key=lambda one: -one[1].rank)
        longest = time.monotonic() - _PATIENCE_SECONDS
        if waiting and (at_once or any(one.since < longest and one.rows > self._writer.written for _, one in waiting)):
            self._writer.flush()
        refused: ValueError | None = None
        for finding_id, waits in waiting:
            begun = time.monotonic()
            if self._stop.is_set() or begun > ends:
                break
            if waits.rows > self._writer.written:
                continue
            try:
                is_news = self._write_down(finding_id, waits)
            except ValueError as error:
                # The error concerns this finding only; the others must not wait for it.
                refused = refused or error
                continue
            if is_news and not at_once:
                rest = _LONG_REST if self._load.since_last() > _BUSY else _REST
                self._stop.wait(min(rest * (time.monotonic() - begun), _MOST_REST_SECONDS))
        if refused is not None:
            raise refused

    def _write_down(self, finding_id: str, waits: _PendingFinding) -> bool:
        """Returns whether there was anything to write."""
        finding = self._store.get(finding_id)
        is_news = finding is not None and self.record(finding)
        with self._lock:
            # Unless it changed again meanwhile.
            if self._waiting.get(finding_id) is waits:
                del self._waiting[finding_id]
        return is_news

    def record(self, finding: Finding) -> bool:
        """Writes the state of a finding and its new events; returns whether there was anything new."""
        before = self.evidence_store.about(finding.id)
        told = [entry for entry in before if isinstance(entry, FindingEntry)]
        if told and told[-1].finding == finding.as_dict():
            return False
        if told and told[-1].finding["count"] == finding.count and told[-1].is_whole:
            # It ended, or its verdict changed: no event was added.
            entry = FindingEntry.of(finding, told[-1].events, is_whole=True)
            self.evidence_store.add(finding.id, [entry], self._micros())
            return True
        known = {(entry.source, entry.position) for entry in before if isinstance(entry, EventEntry)}
        behind = self._behind.of(finding, refresh=False)
        entries: list[LogEntry] = []
        if behind is not None:
            each = (EventEntry.of(event) for event in behind.events)
            entries += [entry for entry in each if (entry.source, entry.position) not in known]
        events = len(known) + len(entries)
        if behind is not None:
            parts = {entry.finding["id"] for entry in before if isinstance(entry, PartEntry)}
            entries += [PartEntry.of(one) for one in behind.findings if one.id not in parts]
        rule = self._behind.rule(finding.rule_id)
        if rule is not None and (by := RuleEntry.of(rule)) not in before:
            entries.append(by)
        entries.append(FindingEntry.of(finding, events, is_whole=behind is not None and behind.is_whole))
        self.evidence_store.add(finding.id, entries, self._micros())
        return True

    def _micros(self) -> int:
        return int(self._clock() * 1e6)

    def close(self, within: float = _CLOSE_SECONDS) -> None:
        """Records queued findings for at most ``within`` seconds and stops; the next start records the rest."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._stop.clear()
        if within > 0:
            with suppress(OSError, ValueError, StoreError, duckdb.Error):
                self.catch_up(at_once=True, within=within)
        self._anchors.step(self.evidence_store.log.head, at_once=True)
        self.evidence_store.close()
