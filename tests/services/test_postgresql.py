"""The tables in a real PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, insert, select, text

from any_names import (
    assert_a_refused_finding_stops_no_other,
    assert_a_refused_notification_stops_no_other,
    assert_every_finding_is_stored,
    names,
    rules_in,
)
from custodes.database import tables
from custodes.database.tables import metadata
from custodes.encryption.keys import NO_KEYS, Keys
from custodes.findings.store import FindingStore
from custodes.findings.triage import TriageChange, TriageStore
from databases import assert_made_new_is_what_migrations_make, assert_what_an_older_version_kept_stays
from servers import PostgreSQL

pytestmark = pytest.mark.services


def test_migrations_create_the_expected_tables(postgresql: PostgreSQL) -> None:
    assert_made_new_is_what_migrations_make(postgresql.database("migrated"))


def test_data_of_an_older_version_is_kept(postgresql: PostgreSQL) -> None:
    assert_what_an_older_version_kept_stays(postgresql.database("older"))


def test_triage(postgresql: PostgreSQL) -> None:
    store = FindingStore(postgresql.database("triage"))
    row = dict.fromkeys(("held_from", "held_until", "peak", "count", "threshold", "keep_open", "opened_at"), 1)
    named = {"id": "f", "rule_id": "r", "rule": "Rule", "level": "high", "group": '{"actor":"100%"}'}
    with store.engine.begin() as connection:
        connection.execute(insert(tables.findings).values(**named, **row))
    triage = TriageStore(store.engine)
    triage.change("f", TriageChange(state="acknowledged", note="looking"), "ines", 1)
    triage.change("f", TriageChange(state="closed", verdict="explained", note="an audit", version=1), "ines", 2)
    assert [note.text for note in triage.history("f")] == ["looking", "explained: an audit"]
    assert triage.verdicts() == {"r": {"explained": 1}}
    for state, group, found in (("closed", "100%", ["f"]), ("open", "100%", []), ("closed", "100_", [])):
        assert [one.id for one in store.page(state=state, group={"actor": group}).findings] == found
    store.close()


def test_encrypted_names_can_be_searched_under_each_key(postgresql: PostgreSQL) -> None:
    first, second = ("first", b"1" * 32), ("second", b"2" * 32)
    url = postgresql.database("encrypted")
    row = dict.fromkeys(("held_from", "held_until", "peak", "count", "threshold", "keep_open", "opened_at"), 1)
    named = {"rule_id": "r", "rule": "Rule", "level": "high"}
    for number, keys in enumerate([NO_KEYS, Keys([first]), Keys([second, first])]):
        store = FindingStore(url, keys)
        values = {"id": f"f{number}", "group": f'{{"actor":"P{number}"}}', **named, **row}
        with store.engine.begin() as connection:
            connection.execute(insert(tables.findings).values(**values))
        for earlier in range(number + 1):
            found = store.page(group={"actor": f"P{earlier}"}).findings
            assert [(one.id, one.group) for one in found] == [(f"f{earlier}", {"actor": f"P{earlier}"})]
        with store.engine.connect() as connection:
            stand = connection.execute(text('SELECT "group" FROM findings')).scalars().all()
        assert all(f'"~{keys.current}~' in group for group in stand) == (keys.current is not None)
        store.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("keys", [NO_KEYS, Keys([("first", b"1" * 32)])], ids=["plain", "encrypted"])
def test_findings_about_any_names_are_stored(postgresql: PostgreSQL, tmp_path: Path, keys: Keys) -> None:
    url = postgresql.database(f"names-{keys.current}")
    rules = rules_in(tmp_path)

    @settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
    @given(events=st.lists(st.tuples(names(), names()), min_size=1, max_size=3))
    def stores(events: list[tuple[str, str]]) -> None:
        engine = create_engine(url)
        metadata.drop_all(engine)
        with engine.begin() as connection:
            connection.execute(text("DROP TABLE IF EXISTS alembic_version"))
        engine.dispose()
        assert_every_finding_is_stored(url, rules, events, keys)

    stores()


def test_a_refused_row_stops_no_other(postgresql: PostgreSQL, tmp_path: Path) -> None:
    rules = rules_in(tmp_path)
    assert_a_refused_finding_stops_no_other(postgresql.database("refused-finding"), rules)
    assert_a_refused_notification_stops_no_other(postgresql.database("refused-notification"), rules)


def test_the_audit_trail_keeps_long_names_distinct(postgresql: PostgreSQL) -> None:
    """The subject of an entry is indexed, and PostgreSQL limits the size of an index entry."""
    store = FindingStore(postgresql.database("audited"))
    row = {"at": 1, "account": "ines", "action": "read", "resource": "person"}
    long = ["".join(chr(0x4E00 + (seed * 7919 + n * n * 31) % 20_000) for n in range(5_000)) for seed in (1, 2)]
    with store.engine.begin() as connection:
        connection.execute(insert(tables.audit), [{**row, "subject": name} for name in [*long, "S1", "S\0\ud800"]])
        for name in [*long, "S1", "S\0\ud800"]:
            found = connection.execute(select(tables.audit.c.subject).where(tables.audit.c.subject == name)).scalars()
            assert len(found.all()) == 1
    store.close()
