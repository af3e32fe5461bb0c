"""Triage: states, verdicts, concurrent changes, and joined findings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import insert

from custodes.database import tables
from custodes.findings.store import FindingStore
from custodes.findings.triage import ConflictError, Triage, TriageChange, TriageStore, hand_over

IDS = ["one", "two", "three"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FindingStore]:
    store = FindingStore(f"sqlite:///{tmp_path / 'findings.db'}")
    fill(store)
    yield store
    store.close()


def fill(store: FindingStore) -> None:
    with store.engine.begin() as connection:
        for at, id_ in enumerate(IDS):
            group = {"one": '{"actor":"P1"}', "two": '{"actor":"P1","resource":"50%"}', "three": '{"actor":"P12"}'}
            row = dict.fromkeys(("held_from", "held_until", "peak", "count", "threshold", "keep_open"), 1)
            named = {"rule_id": f"r{at % 2}", "rule": "Rule", "level": "high", "group": group[id_]}
            connection.execute(insert(tables.findings).values(id=id_, opened_at=at, **named, **row))


@pytest.fixture
def triage(store: FindingStore) -> TriageStore:
    return TriageStore(store.engine)


def ids(store: FindingStore, **filters: object) -> list[str]:
    return [finding.id for finding in store.page(**filters).findings]  # type: ignore[arg-type]


def test_a_finding_is_closed_and_reopened(store: FindingStore, triage: TriageStore) -> None:
    assert triage.of(["one"]) == {"one": Triage()}
    assert triage.change("one", TriageChange(state="acknowledged", assignee="ines"), "ines", 10) == (
        Triage("acknowledged", None, "ines", 1, 10)
    )
    closed = triage.change("one", TriageChange(state="closed", verdict="explained", note="an audit"), "omar", 20)
    assert closed == Triage("closed", "explained", "ines", 2, 20)
    assert ids(store, state="closed") == ["one"]
    assert ids(store, state="open") == ["three", "two"]
    assert ids(store, state="acknowledged") == []
    assert triage.change("one", TriageChange(state="open", note="not so"), "omar", 30) == Triage(
        "open", None, "ines", 3, 30
    )
    assert ids(store, state="open") == ["three", "two", "one"]
    assert [(note.at, note.by, note.kind, note.text) for note in triage.history("one")] == [
        (10, "ines", "assigned", "ines"),
        (10, "ines", "acknowledged", ""),
        (20, "omar", "closed", "explained: an audit"),
        (30, "omar", "reopened", "not so"),
    ]
    assert triage.change("one", TriageChange(assignee=""), "omar", 40).assignee is None
    assert triage.change("one", TriageChange(note="seen"), "omar", 50).state == "open"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"state": "closed"}, "requires a verdict"),
        ({"verdict": "explained", "note": "x"}, "requires a verdict"),
        ({"state": "closed", "verdict": "false_positive", "note": "  "}, "a note that explains the verdict"),
        ({"note": "x" * 4001}, "4001 characters"),
        ({"version": 3}, "nothing to change"),
    ],
)
def test_invalid_changes_are_refused(change: dict[str, str], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        TriageChange(**change)  # type: ignore[arg-type]


def test_a_stale_version_is_refused(triage: TriageStore) -> None:
    seen = triage.of(["two"])["two"].version
    triage.change("two", TriageChange(state="acknowledged", version=seen), "ines", 1)
    with pytest.raises(ConflictError, match="at version 1, and the change is based on version 0"):
        triage.change("two", TriageChange(state="closed", verdict="confirmed", version=seen), "omar", 2)
    with pytest.raises(KeyError):
        triage.change("four", TriageChange(note="x"), "omar", 3)
    assert [note.kind for note in triage.history("two")] == ["acknowledged"]


def test_findings_of_a_group(store: FindingStore) -> None:
    assert ids(store, group={"actor": "P1"}) == ["two", "one"]
    assert ids(store, group={"actor": "P1", "resource": "50%"}) == ["two"]
    assert ids(store, group={"resource": "50_"}) == []
    assert ids(store, group={"actor": "P"}) == []


def test_verdicts_by_rule(triage: TriageStore) -> None:
    triage.change("one", TriageChange(state="closed", verdict="false_positive", note="x"), "a", 1)
    triage.change("three", TriageChange(state="closed", verdict="confirmed"), "a", 1)
    triage.change("two", TriageChange(state="acknowledged"), "a", 1)
    assert triage.verdicts() == {"r0": {"false_positive": 1, "confirmed": 1}}


def test_notes_move_to_the_surviving_finding_of_a_merge(store: FindingStore, triage: TriageStore) -> None:
    triage.change("one", TriageChange(state="acknowledged", note="mine"), "ines", 1)
    with store.engine.begin() as connection:
        hand_over(connection, "one", "two")
    assert triage.of(IDS) == {"one": Triage(), "two": Triage("acknowledged", None, None, 1, 1), "three": Triage()}
    triage.change("three", TriageChange(state="closed", verdict="confirmed"), "omar", 2)
    with store.engine.begin() as connection:
        hand_over(connection, "two", "three")
    assert triage.of(IDS)["three"] == replace(Triage(), state="closed", verdict="confirmed", version=1, changed_at=2)
    assert [note.by for note in triage.history("three")] == ["ines", "omar"]
