"""A monitor with a scripted source."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import httpx

from custodes._core import Engine, Tables
from custodes.accounts.secrets import Secrets
from custodes.config.mapping import load_mapping
from custodes.console import build_app
from custodes.encryption.keys import NO_KEYS, Keys
from custodes.evidence.anchors import Anchors
from custodes.evidence.contributing_events import ContributingEvents
from custodes.evidence.log_store import EvidenceStore
from custodes.evidence.recorder import EvidenceRecorder
from custodes.evidence.retention import Retention
from custodes.findings.store import FindingStore
from custodes.history import History, HistoryWriter, SegmentStore
from custodes.rules import Rule, Ruleset, build_plan, load_rules, shipped_pack
from custodes.runtime.change_notifier import ChangeNotifier
from custodes.runtime.metrics import Metrics
from custodes.runtime.monitor import STATE_SECONDS, Monitor
from custodes.runtime.task import SingleTask
from custodes.sources import LineChunk, SourceMessage, StatelessSource
from custodes.sources.dead_letters import FileDeadLetters

START = 1_767_600_000


class ScriptedSource(StatelessSource):
    """A source that returns events given by the test."""

    name = "script"

    def __init__(self) -> None:
        self.arrivals: list[list[SourceMessage]] = []
        self.commits = 0
        self.on_commit: Callable[[], None] = lambda: None
        self.ended = False

    def poll(self, timeout: float) -> list[SourceMessage]:
        return self.arrivals.pop(0) if self.arrivals else []

    def describe(self, stream: int) -> dict[str, str | int]:
        return {"file": "script", "stream": stream}

    def commit(self, streams: Container[int] | None = None) -> None:
        self.commits += 1
        self.on_commit()

    def lag(self) -> int:
        return 17

    @property
    def finished(self) -> bool:
        return self.ended and not self.arrivals

    def close(self) -> None:
        """Nothing to close."""


class MonitorHarness:
    """A scripted monitor and its web application."""

    def __init__(
        self,
        folder: Path,
        rules: Sequence[Rule] = (),
        memory: int | None = None,
        most_open: int | None = None,
        keys: Keys = NO_KEYS,
    ) -> None:
        """Uses the shipped rules unless ``rules`` are given."""
        self.source = ScriptedSource()
        self.now = float(START)
        self.seconds = 0.0
        rules = rules or load_rules(shipped_pack())
        write = partial(build_plan, mapping=load_mapping("custodes"), most_open=most_open, history=True)
        ruleset = Ruleset(rules, write)
        shelf = SegmentStore(folder / "history", keys)
        self.writer = HistoryWriter(shelf, timedelta(days=35))
        self.history = History(shelf, self.writer)
        self.store = FindingStore(f"sqlite:///{folder / 'findings.db'}", keys)
        self.letters = FileDeadLetters(folder / "dead.jsonl", keys)
        self.monitor = Monitor(
            SingleTask(Engine(ruleset.plan()), rules, self.source),
            rules,
            self.source,
            self.store,
            self.letters,
            Metrics(rules, self.source.name),
            ChangeNotifier(),
            memory=memory,
            history=self.writer,
            clock=lambda: self.now,
            pace=lambda: self.seconds,
        )
        self.contributions = ContributingEvents(self.history, ruleset, Tables(), self.store)
        self.evidence_store = EvidenceStore(folder / "evidence", folder / "evidence.key", "custodes/test", keys)
        self.retention = Retention(self.evidence_store, self.store.peoples, timedelta(days=730))
        self.recorder = EvidenceRecorder(
            self.evidence_store,
            self.store,
            self.contributions,
            self.writer,
            self.retention,
            Anchors(),
            clock=lambda: self.now,
        )
        self.secrets = Secrets.fresh()
        self.app = build_app(
            self.monitor, history=self.history, contributions=self.contributions, evidence_store=self.evidence_store,
            secrets=self.secrets, hosts=["custodes"],
        )  # fmt: skip

    def feed(self, *arrivals: SourceMessage) -> None:
        self.source.arrivals.append(list(arrivals))
        self.seconds += STATE_SECONDS
        self.monitor.step(0)

    def close(self) -> None:
        self.recorder.close()
        self.writer.close()
        self.store.close()
        self.letters.close()

    def series(self) -> set[str]:
        lines = self.monitor.metrics.exposition().decode().splitlines()
        return {line.rsplit(" ", 1)[0] for line in lines if not line.startswith("#")}

    def value(self, series: str) -> float:
        lines = self.monitor.metrics.exposition().decode().splitlines()
        return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(series + " "))

    async def get(self, path: str) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://custodes") as client:
            return await client.get(path)


def look_ups(actors: list[str], subjects: list[str], at: float = 0, first: int = 1) -> LineChunk:
    """``first`` is the number of the first line."""
    events = [
        {"time": START + at, "actor": actor, "subject": subject, "action": "read"}
        for actor in actors
        for subject in subjects
    ]
    return LineChunk(0, b"".join(json.dumps(event).encode() + b"\n" for event in events), first)
