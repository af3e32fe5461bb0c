"""Encryption at rest: the disk alone reveals no name, and permitted users notice no difference."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text, update

from clients import add_accounts, token, visit
from custodes.accounts.roles import Role
from custodes.database import open_database
from custodes.database.reencryption import encrypt_anew, encrypted_columns, rows_by_key
from custodes.database.tables import metadata
from custodes.encryption.keys import NO_KEYS, Keys, add_key, remove_key
from custodes.findings.store import FindingStore
from custodes.history import History, SegmentStore
from custodes.sources import LineChunk
from custodes.sources.dead_letters import read_line
from harness import MonitorHarness, look_ups

ONE = Keys([("one", b"1" * 32)])
TWO = Keys([("two", b"2" * 32), ("one", b"1" * 32)])
SUBJECTS = [f"410105{n:012}" for n in range(200)]
SECRETS = ["P0042", "P0077", SUBJECTS[0][:12], "why P0042"]
"""Texts that must not be on any disk."""


@given(st.text(), st.text(max_size=8))
def test_encrypted_texts_are_decrypted_and_searched(name: str, kind: str) -> None:
    hidden = ONE.hide(kind, name)
    assert hidden.startswith("~one~")
    assert hidden == ONE.hide(kind, name) != TWO.hide(kind, name)
    assert ONE.show(kind, hidden) == TWO.show(kind, hidden) == name
    assert TWO.show(kind, TWO.hide(kind, name)) == name
    assert ONE.show(kind + "x", hidden) == hidden, "a ciphertext of one kind is not valid for another"
    wrapped = ONE.wrap(name)
    assert wrapped != ONE.wrap(name)
    assert TWO.unwrap(wrapped) == name
    assert NO_KEYS.unwrap(NO_KEYS.wrap(name)) == NO_KEYS.show(kind, NO_KEYS.hide(kind, name)) == name


@given(st.text(st.sampled_from("~one=AQab09-_é"), max_size=60))
def test_plain_texts_are_returned_unchanged(name: str) -> None:
    assert ONE.show("actor", name) == name
    assert ONE.unwrap(name) == name
    # The decrypted text equals the original, for any text.
    assert ONE.show("actor", ONE.hide("actor", name)) == name


@given(st.dictionaries(st.sampled_from(["actor", "subject", "resource", "peer_group", "desk"]), st.text(max_size=9)))
def test_a_group_hides_the_people_in_it(group: dict[str, str]) -> None:
    written = json.dumps(group, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    hidden = ONE.hide_group(written)
    assert TWO.show_group(hidden) == written
    stands = json.loads(hidden)
    for name, value in group.items():
        assert (stands[name] == value) == (name in {"resource", "peer_group"})


def test_new_keys_are_written_to_the_top_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "names.keys"
    for name in ("2026", "2027"):
        add_key(path, name)
    assert path.stat().st_mode & 0o777 == 0o600
    keys = Keys.kept_in(path)
    assert (keys.current, keys.names) == ("2027", ["2027", "2026"])
    with pytest.raises(ValueError, match="two keys have the same name"):
        add_key(path, "2026")
    with pytest.raises(ValueError, match="is not a key name"):
        add_key(path, "Two Words")
    remove_key(path, "2026")
    assert Keys.kept_in(path).names == ["2027"]
    with pytest.raises(KeyError):
        remove_key(path, "2026")


@pytest.mark.parametrize("line", ["name", "name !", "name " + base64.b64encode(b"short").decode(), "N " + "A" * 44])
def test_an_invalid_key_file_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "keys").write_text(f"# ours\n{line}\n")
    with pytest.raises(ValueError, match=r"keys:2 is not a key|has [05]$|is not a key name"):
        Keys.kept_in(tmp_path / "keys")


@contextmanager
def a_bench(folder: Path, keys: Keys) -> Iterator[MonitorHarness]:
    folder.mkdir(exist_ok=True)
    bench = MonitorHarness(folder, keys=keys)
    try:
        yield bench
    finally:
        bench.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[MonitorHarness]:
    with a_bench(tmp_path / "bench", ONE) as bench:
        yield bench


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A folder with the data of a used installation, under the first key."""
    with a_bench(tmp_path / "bench", ONE) as bench:
        lived_through(bench)
    return tmp_path / "bench"


def lived_through(bench: MonitorHarness) -> str:
    """Creates data with names in all places and returns the finding's id."""
    add_accounts(bench)
    bench.feed(look_ups(["P0042", "P0077"], SUBJECTS), LineChunk(0, b'{"actor": "P0042"}\n', 401))
    found = {one.group["actor"]: one for one in bench.store.page(1000).findings if one.rule == "Bulk lookups"}
    client = visit(bench, Role.INVESTIGATOR)
    finding = found["P0042"].id
    page = client.get(f"/findings/{finding}").text
    form = {"token": token(page), "finding": finding, "action": "note", "note": "why P0042"}
    assert client.post("/findings/triage", data=form).status_code == 200
    silence = {"token": token(page), "days": "7", "reason": "why P0042"}
    assert client.post(f"/findings/{found['P0077'].id}/silence", data=silence).status_code == 200
    key = {"Idempotency-Key": "k"}
    again = {"group": {"actor": "P0077"}, "until": "2026-12-31T00:00:00Z", "reason": "why P0042"}
    assert client.post("/api/v1/silences", json=again, headers=key).status_code in {201, 400}
    client.post("/search", data={"token": token(page), "wanted": "P0042"})
    for one in bench.store.page(1000).findings:
        bench.recorder.enqueue(one)
    bench.recorder.catch_up(at_once=True)
    bench.writer.flush()
    return finding


def test_no_name_is_on_the_disk(bench: MonitorHarness, tmp_path: Path) -> None:
    finding = lived_through(bench)
    client = visit(bench, Role.INVESTIGATOR)
    page = client.get(f"/findings/{finding}").text
    assert "Bulk lookups: actor P0042" in page
    assert "note: why P0042" in page.replace("</b>", "").replace("\n", "")
    assert "(200)" in page
    hidden = bench.secrets.hidden("actor", "P0042")
    form = {"token": token(page), "kind": "actor", "hidden": hidden, "purpose": "a case of mine"}
    assert "<dt>look-ups in history</dt><dd>200</dd>" in client.post("/look", data=form).text
    assert "P0077" in client.post("/search", data={"token": token(page), "wanted": "P007"}).text
    assert client.post("/search", data={"token": token(page), "wanted": SUBJECTS[0]}).text.count("/subjects/") == 1
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {".parquet", ".evidence", ".db", ".jsonl"} <= {path.suffix for path in files}
    for path in files:
        data = path.read_bytes()
        for secret in SECRETS:
            assert secret.encode() not in data, f"{secret} stands in {path.name}"
            assert base64.b64encode(secret.encode())[:6] not in data or path.suffix != ".jsonl"
    (line,) = (tmp_path / "bench" / "dead.jsonl").read_bytes().splitlines()
    assert "P0042" in read_line(line, ONE)["value"]
    with pytest.raises(PermissionError, match="under the key 'one'"):
        read_line(line, NO_KEYS)


def test_findings_are_the_same_under_the_next_key(tmp_path: Path) -> None:
    with a_bench(tmp_path / "bench", ONE) as bench:
        finding = lived_through(bench)
        before = bench.store.page(1000).findings
    with a_bench(tmp_path / "bench", TWO) as again:
        assert again.store.page(1000).findings == before
        assert finding in {one.id for one in again.store.page(group={"actor": "P0042"}).findings}
        # The events are replayed: each finding is the existing one.
        again.feed(look_ups(["P0042", "P0077"], SUBJECTS))
        assert again.store.page(1000).findings == before
        assert "Bulk lookups: actor P0042" in visit(again, Role.INVESTIGATOR).get(f"/findings/{finding}").text
        with again.store.engine.begin() as connection:
            for table in metadata.sorted_tables:
                encrypt_anew(connection, table)
                assert not rows_by_key(connection, table, ["one"])["one"], table.name
            assert rows_by_key(connection, metadata.tables["audit"], ["two"])["two"] > 0
        assert len(again.evidence_store.about(finding)) == 202


def test_a_missing_key_loses_no_data(left: Path) -> None:
    files = sorted((left / "history").glob("*.parquet"))
    for keys in (NO_KEYS, Keys([("two", b"2" * 32)])):
        with pytest.raises(PermissionError, match="under the key 'one'"):
            SegmentStore(left / "history", keys)
    assert sorted((left / "history").glob("*.parquet")) == files
    shelf = SegmentStore(left / "history", TWO)
    assert len(History(shelf).accesses({"actor": "P0042"}, limit=1000)) == 200
    shelf.close()


def test_a_wrong_key_of_the_same_name_shows_no_names_and_breaks_no_page(left: Path) -> None:
    other = FindingStore(f"sqlite:///{left / 'findings.db'}", Keys([("one", b"9" * 32)]))
    shown = other.page(1000).findings
    assert shown
    assert all(value.startswith("~one~") for one in shown for name, value in one.group.items() if name == "actor")
    other.close()


def test_a_plain_database_is_encrypted_at_the_first_start(tmp_path: Path) -> None:
    with a_bench(tmp_path / "bench", NO_KEYS) as plain:
        lived_through(plain)
        before = plain.store.page(1000).findings
    url = f"sqlite:///{tmp_path / 'bench' / 'findings.db'}"
    store = FindingStore(url, ONE)
    assert store.page(1000).findings == before
    store.close()
    raw = create_engine(url)
    with raw.connect() as connection:
        groups = connection.execute(text('SELECT "group" FROM findings')).scalars().all()
    assert groups
    assert not any("P00" in group for group in groups)
    raw.dispose()
    engine = open_database(url, keys=ONE)
    with engine.begin() as connection:
        # Values without names stay as they are and are not rewritten each time.
        connection.execute(update(metadata.tables["findings"]).values(group='{"resource":"hotel"}'))
        assert encrypt_anew(connection, metadata.tables["findings"]) == 0
        assert encrypt_anew(connection, metadata.tables["notes"]) > 0
        assert encrypt_anew(connection, metadata.tables["notes"]) == 0
    engine.dispose()


def test_every_column_that_may_contain_names_is_encrypted() -> None:
    """A new column must be listed here or be encrypted."""
    free = {"String", "Text"}
    plain = {
        f"{table.name}.{column.name}"
        for table in metadata.sorted_tables
        for column in table.columns
        if type(column.type).__name__ in free and column not in encrypted_columns(table)
    }
    assert plain == {
        "accounts.identity", "accounts.name", "accounts.password", "accounts.resources", "accounts.role",
        "answers.key", "answers.request", "audit.account", "audit.action", "audit.address", "audit.resource",
        "claims.task", "claims.worker", "findings.id", "findings.level", "findings.rule", "findings.rule_id",
        "firing.finding_id", "firing.receiver", "gaps.place", "holds.by", "holds.finding_id", "news.by", "news.kind",
        "notes.by", "notes.finding_id", "notes.kind", "receivers.holder", "receivers.name", "sessions.account",
        "sessions.key", "shortfalls.kind", "shortfalls.rule_id", "silences.by", "silences.rule_id", "tokens.account",
        "tokens.key", "tokens.label", "tokens.permissions", "triage.assignee", "triage.finding_id", "triage.state",
        "triage.verdict", "undelivered.receiver", "undelivered.why", "views.by", "views.level", "views.name",
        "views.rule_id", "views.state", "workers.name", "workers.status",
    }  # fmt: skip
