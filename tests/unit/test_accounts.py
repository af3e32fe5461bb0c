"""Accounts: passwords, sessions, locks; the secret; the audit trail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from custodes.accounts.audit import AuditEntry, AuditTrail
from custodes.accounts.roles import Permission, Role
from custodes.accounts.secrets import Secrets
from custodes.accounts.store import Account, AccountLockedError, AccountStore, SignInError
from custodes.database import open_database

PASSWORD = "correct horse battery"
SECOND = 1_000_000
HOUR = 3600 * SECOND


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(f"sqlite:///{tmp_path / 'custodes.db'}")
    yield engine
    engine.dispose()


@pytest.fixture
def accounts(engine: Engine) -> AccountStore:
    store = AccountStore(engine)
    assert not store.exist()
    store.add("ines", Role.INVESTIGATOR, PASSWORD, 0)
    assert store.exist()
    return store


def test_a_session_belongs_to_its_account_until_it_ends(accounts: AccountStore, engine: Engine) -> None:
    key = accounts.sign_in("ines", PASSWORD, 0)
    assert accounts.of_session(key, HOUR) == Account("ines", Role.INVESTIGATOR)
    assert accounts.of_session(key, 9 * HOUR - SECOND) is not None, "it was used eight hours before"
    assert accounts.of_session(key, 18 * HOUR) is None, "and then it was not"
    assert accounts.of_session("another", HOUR) is None
    with engine.connect() as connection:
        kept = connection.execute(text("SELECT key, password FROM sessions JOIN accounts ON account = name")).one()
    assert key not in str(kept)
    assert PASSWORD not in str(kept)
    assert kept.password.startswith("$argon2id$")
    accounts.sign_out(key)
    assert accounts.of_session(key, HOUR) is None


def test_no_session_lasts_longer_than_a_day(accounts: AccountStore) -> None:
    key = accounts.sign_in("ines", PASSWORD, 0)
    for hour in range(1, 24):
        assert accounts.of_session(key, hour * HOUR) is not None
    assert accounts.of_session(key, 24 * HOUR) is None


def test_every_sign_in_gets_a_new_key(accounts: AccountStore) -> None:
    assert len({accounts.sign_in("ines", PASSWORD, at) for at in range(3)}) == 3


def test_wrong_passwords_lock_longer_and_longer(accounts: AccountStore) -> None:
    now, waits = 0, []
    for _ in range(4):
        with pytest.raises(SignInError, match="name or the password is wrong"):
            accounts.sign_in("ines", "wrong", now)
    for _ in range(8):
        with pytest.raises(SignInError, match="name or the password is wrong"):
            accounts.sign_in("ines", "wrong", now)
        with pytest.raises(AccountLockedError) as refused:
            accounts.sign_in("ines", PASSWORD, now)
        wait = int(str(refused.value).split()[-2])
        waits.append(wait)
        with pytest.raises(AccountLockedError):
            accounts.sign_in("ines", PASSWORD, now + (wait - 1) * SECOND)
        now += wait * SECOND
    assert waits == [30, 60, 120, 240, 480, 900, 900, 900]
    assert accounts.sign_in("ines", PASSWORD, now)
    with pytest.raises(SignInError, match="wrong"):
        accounts.sign_in("ines", "wrong", now)
    assert accounts.sign_in("ines", PASSWORD, now), "a right one has made good for those before"


def test_an_unknown_user_is_indistinguishable_from_a_wrong_password(accounts: AccountStore) -> None:
    said = set()
    for name in ("ines", "nobody", "", "ines'; --"):
        with pytest.raises(SignInError) as refused:
            accounts.sign_in(name, "wrong", 0)
        said.add(str(refused.value))
    assert len(said) == 1


def test_changes_end_sessions(accounts: AccountStore) -> None:
    changes = ({"role": Role.VIEWER}, {"password": "another long one"}, {"disable": True})
    password = PASSWORD
    for change in changes:
        key = accounts.sign_in("ines", password, 0)
        accounts.change("ines", **change)
        assert accounts.of_session(key, 1) is None
        password = str(change.get("password", password))
    assert accounts.list() == [Account("ines", Role.VIEWER, is_disabled=True)]
    with pytest.raises(SignInError):
        accounts.sign_in("ines", password, 0)
    with pytest.raises(KeyError):
        accounts.change("nobody", disable=True)


@pytest.mark.parametrize(
    ("name", "password", "fault"),
    [
        ("ines", PASSWORD, "an account 'ines' exists already"),
        ("Ines", PASSWORD, "is not an account name"),
        ("a\nb", PASSWORD, "is not an account name"),
        ("", PASSWORD, "is not an account name"),
        ("omar", "short", "must have 12 to 256 characters, this one has 5"),
    ],
)
def test_invalid_accounts_are_refused(accounts: AccountStore, name: str, password: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        accounts.add(name, Role.VIEWER, password, 0)


def test_permissions_by_role() -> None:
    may = {role: {permission.value for permission in role.permissions} for role in Role}
    assert may == {
        Role.VIEWER: {"see"},
        Role.INVESTIGATOR: {"see", "reveal", "triage"},
        Role.AUTHOR: {"see", "operate"},
        Role.ADMIN: {"see", "operate"},
        Role.AUDITOR: {"see", "audit"},
    }
    assert set(Permission) == {permission for role in Role for permission in role.permissions}


@given(st.text(), st.text())
def test_pseudonyms_are_resolved_only_in_this_installation(name: str, other: str) -> None:
    keys, others = Secrets(b"1" * 32), Secrets(b"2" * 32)
    hidden = keys.hidden("subject", name)
    assert keys.shown("subject", hidden) == name
    assert hidden == keys.hidden("subject", name)
    assert set(hidden) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert (keys.hidden("subject", other) == hidden) == (other == name)
    for stranger, kind in ((others, "subject"), (keys, "actor")):
        with pytest.raises(ValueError, match="no such address"):
            stranger.shown(kind, hidden)
    with pytest.raises(ValueError, match="no such address"):
        keys.shown("subject", other)
    assert keys.pseudonym("actor", name) != others.pseudonym("actor", name)


def test_the_secret_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    first = Secrets.kept_in(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Secrets.kept_in(path).pseudonym("actor", "P1") == first.pseudonym("actor", "P1")
    path.write_bytes(b"short")
    with pytest.raises(ValueError, match="5 bytes and is not a secret"):
        Secrets.kept_in(path)


def test_the_audit_trail_is_paged_and_in_event_format(engine: Engine) -> None:
    trail = AuditTrail(engine)
    for at in range(5):
        trail.record(
            AuditEntry(at, "ines" if at % 2 else "omar", "read", "custodes.subject", f"s{at}", "case 7", "10.1.2.3")
        )
    first, before = trail.page(2)
    second, _ = trail.page(9, before)
    assert [look.at for _, look in [*first, *second]] == [4, 3, 2, 1, 0]
    mine, none = trail.page(9, having={"account": "ines"})
    assert ([look.at for _, look in mine], none) == ([3, 1], None)
    assert first[0][1].as_event() == {
        "time": 4, "actor": "omar", "action": "read", "resource": "custodes.subject", "subject": "s4",
        "purpose": "case 7", "client_ip": "10.1.2.3", "app": "custodes",
    }  # fmt: skip
