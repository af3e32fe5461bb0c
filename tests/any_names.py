"""Names as no registry would give them, and what every database must do with findings about them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from hypothesis import strategies as st
from sqlalchemy import Engine as Database
from sqlalchemy import text

from custodes._core import Engine, FindingChange
from custodes.config.mapping import load_mapping
from custodes.encryption.keys import NO_KEYS, Keys
from custodes.findings.outbox import OutboxStore
from custodes.findings.store import FindingStore
from custodes.rules import Rule, build_plan, load_rules

RULES = """\
title: Read
name: read
logsource: {product: custodes}
detection:
    selection: {action: read}
    condition: selection
---
title: By actor
id: 11111111-1111-4111-8111-111111111111
level: high
correlation: {type: event_count, rules: [read], group-by: [actor], timespan: 10s, condition: {gte: 1}}
---
title: By subject
id: 22222222-2222-4222-8222-222222222222
level: high
correlation: {type: event_count, rules: [read], group-by: [subject], timespan: 10s, condition: {gte: 1}}
"""
START = 1_767_600_000
LONGEST = 1 << 20
PLAIN = ("P0042", "S0042")
"""Actor and subject of an event beside the others; findings about them must be stored in any case."""

_UNITS = st.sampled_from(["a", "王", "é", "\0", "\ud800", "\U0001f600", "%_/\\", '"', "~", "\u200b", "'", "\r\n"])


def _repeated(unit: str, size: int, end: str) -> str:
    return unit * (size // len(unit.encode("utf-8", "surrogatepass")) + 1) + end


def _incompressible(seed: int, size: int) -> str:
    """PostgreSQL compresses what repeats; an index entry of such a text is as long as the text."""
    return "".join(chr(0x4E00 + (seed * 7919 + n * n * 31) % 20_000) for n in range(size))


def names() -> st.SearchStrategy[str]:
    """Names of 1 byte to 1 MiB: any characters, NUL, lone surrogates, Chinese, texts that look encrypted."""
    any_text = st.text(st.characters(), min_size=1, max_size=40)
    sizes = st.sampled_from([1, 255, 1_500, 2_700, 3_000, 8_191, 70_000, LONGEST])
    long = st.builds(_repeated, _UNITS, sizes, st.text("abc", min_size=1, max_size=3))
    random_text = st.builds(_incompressible, st.integers(0, 1000), st.sampled_from([1, 900, 3_000, 60_000]))
    looks_encrypted = st.sampled_from(["~key~AAAA", "~~key~AAAA", "{}", "null", '{"actor":"x"}'])
    return st.one_of(any_text, long, random_text, looks_encrypted)


def rules_in(folder: Path) -> list[Rule]:
    (folder / "rules.yml").write_text(RULES)
    return load_rules([folder / "rules.yml"])


def changes_of(rules: Sequence[Rule], events: Sequence[tuple[str, str]]) -> list[FindingChange]:
    """Returns the engine's changes for one look-up per pair of actor and subject, an hour apart."""
    plan = build_plan(rules, mapping=load_mapping("custodes"), max_record_bytes=64 << 20)
    records = [
        {"time": START + 3600 * n, "actor": actor, "subject": subject, "action": "read"}
        for n, (actor, subject) in enumerate(events)
    ]
    outcome = Engine(plan).process_lines(b"".join(json.dumps(record).encode() + b"\n" for record in records))
    assert outcome.events + len(outcome.rejects) == len(records)
    return list(outcome.changes)


def assert_every_finding_is_stored(
    url: str, rules: Sequence[Rule], events: Sequence[tuple[str, str]], keys: Keys = NO_KEYS
) -> None:
    """Stores the findings about ``events`` and :data:`PLAIN`, and again after a restart with the same records."""
    changes = changes_of(rules, [*events, PLAIN])
    expected = {change.id: dict(zip(rules[change.rule].group_by, change.group, strict=True)) for change in changes}
    for _ in range(2):
        store = FindingStore(url, keys)
        store.apply(changes, rules)
        assert store.shortfalls() == []
        for id_, group in expected.items():
            found = store.get(id_)
            assert found is not None
            assert found.shown == group
            assert id_ in [one.id for one in store.page(1000, group=group).findings]
        announced = [(one.kind, one.finding.id) for one in OutboxStore(store.engine).after(0, 1_000_000)]
        assert len(set(announced)) == len(announced), "a restart announces nothing again"
        assert {id_ for _, id_ in announced} == expected.keys()
        store.close()


REFUSE = {
    "sqlite": """
        CREATE TRIGGER refuse BEFORE INSERT ON {table} WHEN instr(new.{column}, 'POISON') > 0
        BEGIN SELECT RAISE(ABORT, 'refused for its content'); END""",
    "postgresql": "ALTER TABLE {table} ADD CONSTRAINT refuse CHECK (position('POISON' in {column}) = 0)",
}


def refuse(database: Database, table: str, column: str) -> None:
    """Makes the database refuse rows of a table that contain the word ``POISON``."""
    with database.begin() as connection:
        connection.execute(text(REFUSE[database.dialect.name].format(table=table, column=column)))


def assert_a_refused_finding_stops_no_other(url: str, rules: Sequence[Rule]) -> None:
    store = FindingStore(url)
    refuse(store.engine, "findings", '"group"')
    changes = changes_of(rules, [("P1", "S1"), ("POISON", "S2"), ("P3", "S3")])
    (poisoned,) = {change.id for change in changes if "POISON" in change.group}
    expected = {change.id for change in changes} - {poisoned}
    for attempt in range(2):
        news = store.apply(changes, rules)
        assert {finding.id for kind, finding in news if kind == "opened"} == (set() if attempt else expected)
        assert {one.id for one in store.page(100).findings} == expected
        (shortfall,) = store.shortfalls()
        assert (shortfall.kind, shortfall.rule_id, shortfall.groups) == ("refused", rules[0].id, 1)
        assert (store.refused.findings, store.refused.notifications) == (1, 0)
        store.refresh(changes, rules)
        assert {entry.finding.id for entry in OutboxStore(store.engine).after(0, 100)} == expected
        store.close()
        store = FindingStore(url)
    store.close()


def assert_a_refused_notification_stops_no_other(url: str, rules: Sequence[Rule]) -> None:
    store = FindingStore(url)
    refuse(store.engine, "news", "finding")
    changes = changes_of(rules, [("P1", "S1"), ("POISON", "S2"), ("P3", "S3")])
    store.apply(changes, rules)
    assert {one.id for one in store.page(100).findings} == {change.id for change in changes}
    announced = {entry.finding.id for entry in OutboxStore(store.engine).after(0, 100)}
    assert announced == {change.id for change in changes if "POISON" not in change.group}
    refused = [change for change in changes if "POISON" in change.group]
    assert (store.refused.findings, store.refused.notifications) == (0, len(refused))
    store.close()
