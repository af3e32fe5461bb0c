"""The findings store: idempotent by id and by overlap, paged, consistent with the engine."""

from __future__ import annotations

import itertools
import json
import random
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, update

from custodes._core import Engine, FindingChange, Outcome
from custodes.config.mapping import load_mapping
from custodes.database import tables
from custodes.evidence.entries import PartEntry, read
from custodes.findings import Finding, FindingAccumulator
from custodes.findings.outbox import OutboxStore
from custodes.findings.silences import Silence, SilenceStore
from custodes.findings.store import FencedError, FindingStore
from custodes.findings.triage import TriageChange, TriageStore
from custodes.rules import Rule, build_plan, load_rules
from custodes.rules.model import LEVELS

RULE = """\
title: Read
name: read
logsource: {product: custodes}
detection:
    selection: {actor: '*'}
    condition: selection
---
title: Many
id: 11111111-1111-4111-8111-111111111111
level: high
correlation:
    type: event_count
    rules: [read]
    group-by: [actor]
    timespan: 10s
    condition: {gte: 3}
"""
START = 1_767_600_000


@pytest.fixture
def rules(tmp_path: Path) -> list[Rule]:
    (tmp_path / "rule.yml").write_text(RULE)
    return load_rules([tmp_path / "rule.yml"])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FindingStore]:
    store = FindingStore(f"sqlite:///{tmp_path / 'findings.db'}")
    yield store
    store.close()


def engine(rules: list[Rule]) -> Engine:
    return Engine(build_plan(rules, load_mapping("custodes")))


def events(rng: random.Random, count: int = 400) -> list[tuple[float, str]]:
    return sorted((START + rng.randrange(600_000) / 1000, rng.choice("abcdef")) for _ in range(count))


def run(engine: Engine, stream: list[tuple[float, str]], batch: int) -> Iterator[Outcome]:
    for at in range(0, len(stream), batch):
        text = "\n".join(json.dumps({"time": time, "actor": actor}) for time, actor in stream[at : at + batch])
        yield engine.process_lines(text.encode())
    yield engine.finish()


def stored(store: FindingStore) -> list[Finding]:
    return sorted(store.page(1000).findings, key=lambda finding: (finding.opened_at, finding.id))


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_the_store_equals_the_engines_findings(rules: list[Rule], store: FindingStore, batch: int) -> None:
    ledger = FindingAccumulator(rules)
    for outcome in run(engine(rules), events(random.Random(1)), batch):
        ledger.apply(outcome.changes)
        store.apply(outcome.changes, rules)
    assert len(ledger.findings()) > 5
    assert stored(store) == ledger.findings()
    assert store.open_counts() == {}


@pytest.mark.parametrize("batch", [1, 13])
def test_a_replay_in_another_order_changes_nothing(rules: list[Rule], store: FindingStore, batch: int) -> None:
    stream = events(random.Random(2))
    for outcome in run(engine(rules), stream, 50):
        store.apply(outcome.changes, rules)
    before = stored(store)
    rng = random.Random(3)
    again = sorted(stream, key=lambda event: event[0] + rng.random() * 9)
    assert again != stream
    news = [one for outcome in run(engine(rules), again, batch) for one in store.apply(outcome.changes, rules)]
    assert stored(store) == before
    assert not [kind for kind, _ in news if kind == "opened"]


@pytest.mark.parametrize("seed", [0, 1, 5, 15, 19, 33])
def test_changes_stored_together_equal_changes_stored_one_by_one(rules: list[Rule], tmp_path: Path, seed: int) -> None:
    """Reports findings out of order so that they join, some silenced or closed by a user; then all again."""
    rng = random.Random(seed)
    late = sorted(events(rng), key=lambda event: event[0] + rng.random() * 9)
    again = sorted(late, key=lambda event: event[0] + rng.random() * 9)
    heard = [
        change for stream in (late, again) for outcome in run(engine(rules), stream, 2) for change in outcome.changes
    ]
    assert {"opened", "merged", "closed"} <= {change.kind for change in heard}
    now = int(time.time() * 1e6)
    expected = Silence(None, {"actor": "a"}, now - 10**6, now + 3600 * 10**6, "ines", "an audit")
    came = []
    meanwhile = len(heard) // 3
    few = sorted({meanwhile, *rng.sample(range(1, len(heard)), 9)})
    for name, cuts in ("one", range(1, len(heard))), ("few", few):
        store = FindingStore(f"sqlite:///{tmp_path / name}.db")
        SilenceStore(store.engine).add(expected)
        news: list[tuple[str, Finding]] = []
        for begin, end in itertools.pairwise([0, *cuts, len(heard)]):
            news += store.apply(heard[begin:end], rules)
            if end == meanwhile:
                for one in stored(store)[::2]:
                    TriageStore(store.engine).change(
                        one.id, TriageChange(state="closed", verdict="confirmed"), "omar", 1
                    )
        told = [(one.kind, one.finding) for one in OutboxStore(store.engine).after(0, 10_000)]
        stands = TriageStore(store.engine).of(one.id for one in stored(store))
        came.append((stored(store), news, told, {id_: replace(one, changed_at=0) for id_, one in stands.items()}))
        store.close()
    assert came[0] == came[1]


def test_storing_changes_never_scans_all_findings(rules: list[Rule], store: FindingStore) -> None:
    """The cost does not depend on the number of stored findings, which grows for years."""
    asked: dict[str, Any] = {}

    @event.listens_for(store.engine, "before_cursor_execute")
    def note(_: Any, __: Any, statement: str, values: Any, ___: Any, many: bool) -> None:
        asked[statement] = values[0] if many else values

    for outcome in run(engine(rules), events(random.Random(5)), 20):
        store.apply(outcome.changes, rules)
        store.refresh(outcome.changes, rules)
    event.remove(store.engine, "before_cursor_execute", note)
    of_findings = [statement for statement in asked if re.search(r"(FROM|UPDATE) findings", statement)]
    assert len(of_findings) >= 3
    with store.engine.connect() as connection:
        for statement in of_findings:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", asked[statement]).all()
            assert not [step for *_, step in plan if "SCAN" in step], statement


@pytest.mark.parametrize("heard_before", [False, True])
def test_grown_findings_are_updated_together(rules: list[Rule], store: FindingStore, heard_before: bool) -> None:
    """Also if the store knows a finding by the id of an earlier run, and has more of it."""
    stream = events(random.Random(7))
    if heard_before:
        for outcome in run(engine(rules), stream[3:], 40):
            store.apply(outcome.changes, rules)
    again = engine(rules)
    updates: list[FindingChange] = []
    for outcome in run(again, stream, 5):
        store.apply(outcome.changes, rules)
        if updates := again.updates():
            break
    assert updates
    before = {finding.id: finding for finding in stored(store)}
    store.refresh(updates, rules)
    after = {finding.id: finding for finding in stored(store)}
    assert before.keys() == after.keys()
    grown = [id_ for id_ in before if after[id_].count > before[id_].count]
    assert not grown if heard_before else grown
    store.refresh(updates, rules)
    assert {finding.id: finding for finding in stored(store)} == after


def test_a_restart_finishes_open_findings(rules: list[Rule], store: FindingStore) -> None:
    """A crash between two batches: the second engine replays everything from the start."""
    stream = events(random.Random(4))
    outcomes = run(engine(rules), stream, 20)
    for _ in range(7):
        store.apply(next(outcomes).changes, rules)
    assert store.open_counts()
    ledger = FindingAccumulator(rules)
    for outcome in run(engine(rules), stream, 50):
        ledger.apply(outcome.changes)
        store.apply(outcome.changes, rules)
    assert stored(store) == ledger.findings()


def test_pages_are_newest_first_and_complete(rules: list[Rule], store: FindingStore) -> None:
    for outcome in run(engine(rules), events(random.Random(5)), 100):
        store.apply(outcome.changes, rules)
    everything = store.page(1000).findings
    paged: list[Finding] = []
    after = None
    while True:
        page = store.page(3, after)
        paged += page.findings
        after = page.next
        if after is None:
            break
        assert len(page.findings) == 3
    assert paged == everything
    assert [finding.opened_at for finding in paged] == sorted((f.opened_at for f in paged), reverse=True)
    with pytest.raises(ValueError, match="is not a cursor"):
        store.page(3, "junk")


def test_filters(rules: list[Rule], store: FindingStore) -> None:
    outcomes = run(engine(rules), events(random.Random(6)), 100)
    store.apply(next(outcomes).changes, rules)
    open_now = store.page(open_only=True).findings
    assert open_now
    assert all(finding.closed_at is None for finding in open_now)
    assert store.open_counts() == {rules[0].id: len(open_now)}
    assert store.page(level="low").findings == []
    assert store.page(level="high", rule_id=rules[0].id).findings == store.page().findings
    assert store.get(open_now[0].id) == open_now[0]
    assert store.get("no such") is None


def test_open_findings_are_sorted_by_urgency_without_closed_ones(rules: list[Rule], store: FindingStore) -> None:
    store.apply(next(run(engine(rules), events(random.Random(6)), 100)).changes, rules)
    first, *_ = store.page(open_only=True).findings
    levels = ["low", "critical", "high", "medium"]
    with store.engine.begin() as connection:
        for at, one in enumerate(store.page().findings):
            changed = {"level": levels[at % 4], "peak": one.peak + at // 4}
            connection.execute(update(tables.findings).where(tables.findings.c.id == one.id).values(changed))
    everything = store.page().findings
    assert {one.closed_at is None for one in everything} == {True, False}
    by_urgency = sorted(
        everything,
        key=lambda one: (-LEVELS.index(one.level), one.closed_at is not None, -one.times_threshold, -one.opened_at),
    )
    assert len({one.level for one in by_urgency}) == 4
    assert store.unreviewed(100) == (len(everything), by_urgency)
    assert store.unreviewed(2) == (len(everything), by_urgency[:2])
    TriageStore(store.engine).change(
        first.id, TriageChange(state="closed", verdict="explained", note="a drill"), "eva", 0
    )
    assert store.unreviewed(100) == (len(everything) - 1, [one for one in by_urgency if one.id != first.id])
    assert store.open_counts() == {rules[0].id: len(store.page(open_only=True).findings) - 1}


def test_a_task_belongs_to_the_last_claimant(rules: list[Rule], store: FindingStore) -> None:
    """The previous owner of a task is refused for all writes; other tasks are not affected."""
    first, other = store.claim("access/1", "w1"), store.claim("access/2", "w1")
    opened = [outcome.changes for outcome in run(engine(rules), events(random.Random(1)), 50)]
    store.apply(opened[0], rules, first)
    assert store.holds(first)
    second = store.claim("access/1", "w2")
    assert (store.holds(first), store.holds(second)) == (False, True)
    before = stored(store)
    for write in (store.apply, store.refresh):
        with pytest.raises(FencedError):
            write(opened[1], rules, first)
    assert stored(store) == before
    store.apply(opened[1], rules, second)
    store.apply(opened[1], rules, other)
    assert stored(store) != before


def test_workers_are_listed_until_long_after_their_end(store: FindingStore) -> None:
    store.tell_of_worker("w2", 100.0, "{}")
    store.tell_of_worker("w1", 101.0, "{}")
    store.tell_of_worker("w2", 102.0, '{"a":1}')
    assert store.workers() == [("w1", 101.0, "{}"), ("w2", 102.0, '{"a":1}')]
    store.tell_of_worker("w2", 101.0 + 86_401, "{}")
    assert [name for name, _, _ in store.workers()] == ["w2"]


def test_a_finding_stored_by_an_earlier_version_is_read() -> None:
    fields: dict[str, Any] = {
        "id": "f", "rule_id": "r", "rule": "R", "level": "high", "group": {"actor": "a"}, "opened_at": 1,
        "closed_at": None, "held_from": 1, "held_until": 2, "peak": 3, "count": 3, "threshold": 3, "keep_open": 0,
    }  # fmt: skip
    earlier = Finding.read({**fields, "usual": 1.5})
    assert earlier == Finding.read({**fields, "expected": 1.5})
    assert earlier.as_dict()["expected"] == 1.5
    entry = json.dumps({"kind": "part", "finding": {"id": "f", "usual": 1.5}}).encode()
    assert read(entry) == PartEntry({"id": "f", "expected": 1.5})
