"""The tables in a real PostgreSQL."""

from __future__ import annotations

import pytest
from sqlalchemy import insert, text

from custodes.database import tables
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
