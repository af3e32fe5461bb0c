"""Accounts and sessions in the database.

Passwords are hashed with argon2. Of a session key only a hash is stored, so database readers cannot use a session.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, Engine, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from custodes.accounts.resource_scope import UNRESTRICTED, ResourceScope
from custodes.accounts.roles import Role
from custodes.database.tables import accounts, sessions

LEAST_PASSWORD: Final = 12
_MOST_PASSWORD: Final = 256
_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
_SECOND = 1_000_000
_FREE_FAILURES = 5
"""Wrong passwords in a row before the account is locked; each further one doubles the time."""
_FIRST_LOCK = 30 * _SECOND
_LONGEST_LOCK = 900 * _SECOND
_IDLE = 8 * 3600 * _SECOND
"""Microseconds without use after which a session ends."""
_LONGEST_SESSION = 24 * 3600 * _SECOND
_SEEN_EVERY = 60 * _SECOND


class SignInError(Exception):
    """The name or the password is wrong; the message does not say which."""


class AccountLockedError(SignInError):
    """The account is locked for a while after too many wrong passwords."""


@dataclass(frozen=True)
class Account:
    """An account."""

    name: str
    role: Role
    is_disabled: bool = False
    reach: ResourceScope = UNRESTRICTED


class AccountStore:
    """Safe to use from any thread. Times are microseconds since the epoch."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._hasher = PasswordHasher()
        # An unknown name takes as long to refuse as a wrong password.
        self._nobody = self._hasher.hash(secrets.token_hex(16))

    def add(self, name: str, role: Role, password: str, now: int, reach: ResourceScope = UNRESTRICTED) -> None:
        """Raises ``ValueError`` for an invalid or existing name and for a short password."""
        row = _row(name, role, reach, now) | {"password": self._hashed(password)}
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(accounts).values(row))
        except IntegrityError as error:
            raise ValueError(f"an account '{name}' exists already") from error

    def change(
        self,
        name: str,
        *,
        role: Role | None = None,
        reach: ResourceScope | None = None,
        password: str | None = None,
        disable: bool | None = None,
    ) -> None:
        """Changes an account and ends its sessions. Raises ``KeyError`` for an unknown name, and ``ValueError`` as
        :meth:`add`."""
        values: dict[str, object] = {"failures": 0, "locked_until": 0}
        if role is not None:
            values["role"] = role.value
        if reach is not None:
            values["resources"] = reach.text
        if password is not None:
            values["password"] = self._hashed(password)
        if disable is not None:
            values["is_disabled"] = disable
        with self._engine.begin() as connection:
            if not connection.execute(update(accounts).where(accounts.c.name == name).values(**values)).rowcount:
                raise KeyError(name)
            connection.execute(delete(sessions).where(sessions.c.account == name))

    def list(self) -> list[Account]:
        query = select(accounts).order_by(accounts.c.name)
        with self._engine.connect() as connection:
            rows = connection.execute(query)
            return [
                Account(row.name, Role(row.role), row.is_disabled, ResourceScope.read(row.resources)) for row in rows
            ]

    def exist(self) -> bool:
        """Returns whether any account exists: then every request needs one."""
        with self._engine.connect() as connection:
            return connection.execute(select(func.count()).select_from(accounts)).scalar_one() > 0

    def sign_in(self, name: str, password: str, now: int) -> str:
        """Returns the key of a new session. Raises :class:`SignInError`."""
        with self._engine.connect() as connection:
            row = connection.execute(select(accounts).where(accounts.c.name == name)).mappings().first()
        if row is None or row["is_disabled"]:
            self._is_right(self._nobody, password)
            raise SignInError("the name or the password is wrong")
        if row["locked_until"] > now:
            seconds = -(-(row["locked_until"] - now) // _SECOND)
            raise AccountLockedError(f"too many wrong passwords; retry in {seconds} s")
        if not self._is_right(row["password"], password):
            self._failed(name, row["failures"] + 1, now)
            raise SignInError("the name or the password is wrong")
        with self._engine.begin() as connection:
            its = accounts.c.name == name
            fresh: dict[str, object] = {"failures": 0, "locked_until": 0}
            if self._hasher.check_needs_rehash(row["password"]):
                fresh["password"] = self._hasher.hash(password)
            connection.execute(update(accounts).where(its).values(**fresh))
            return _open_session(connection, name, now)

    def arrive(self, name: str, role: Role, reach: ResourceScope, identity: str, now: int) -> str:
        """Returns the key of a new session for a user authenticated by a provider, and stores the user's role and
        resources.

        ``identity`` is provider and identifier. Raises :class:`SignInError`.
        """
        its = accounts.c.name == name
        try:
            with self._engine.begin() as connection:
                row = connection.execute(select(accounts).where(its)).mappings().first()
                if row is None:
                    fresh = _row(name, role, reach, now) | {"password": "", "identity": identity}
                    connection.execute(insert(accounts).values(fresh))
                elif row["identity"] != identity:
                    raise SignInError(f"'{name}' is the account of another user here")
                elif row["is_disabled"]:
                    raise SignInError("the account is disabled")
                elif (row["role"], row["resources"]) != (role, reach.text):
                    connection.execute(update(accounts).where(its).values(role=role.value, resources=reach.text))
                return _open_session(connection, name, now)
        except (IntegrityError, ValueError) as error:
            why = "try again" if isinstance(error, IntegrityError) else str(error)
            raise SignInError(why) from error

    def have_passwords(self) -> bool:
        """Returns whether any account has a local password."""
        query = select(func.count()).select_from(accounts).where(accounts.c.password != "")
        with self._engine.connect() as connection:
            return connection.execute(query).scalar_one() > 0

    def of_session(self, key: str, now: int) -> Account | None:
        """Returns the account of a session; ``None`` if the session has ended or is unknown."""
        query = (
            select(sessions.c.seen_at, accounts.c.name, accounts.c.role, accounts.c.resources)
            .join(accounts, accounts.c.name == sessions.c.account)
            .where(
                sessions.c.key == _digest(key),
                sessions.c.created_at > now - _LONGEST_SESSION,
                sessions.c.seen_at > now - _IDLE,
                accounts.c.is_disabled.is_(False),
            )
        )
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        if row.seen_at < now - _SEEN_EVERY:
            with self._engine.begin() as connection:
                connection.execute(update(sessions).where(sessions.c.key == _digest(key)).values(seen_at=now))
        return Account(row.name, Role(row.role), reach=ResourceScope.read(row.resources))

    def sign_out(self, key: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(delete(sessions).where(sessions.c.key == _digest(key)))

    def _failed(self, name: str, failures: int, now: int) -> None:
        over = failures - _FREE_FAILURES
        lock = min(_FIRST_LOCK * 2 ** min(over, 10), _LONGEST_LOCK) if over >= 0 else 0
        with self._engine.begin() as connection:
            values = {"failures": failures, "locked_until": now + lock}
            connection.execute(update(accounts).where(accounts.c.name == name).values(**values))

    def _hashed(self, password: str) -> str:
        if not LEAST_PASSWORD <= len(password) <= _MOST_PASSWORD:
            raise ValueError(
                f"the password must have {LEAST_PASSWORD} to {_MOST_PASSWORD} characters, this one has {len(password)}"
            )
        return self._hasher.hash(password)

    def _is_right(self, hashed: str, password: str) -> bool:
        try:
            # An overlong input cannot be right and is not worth the work of a hash.
            return self._hasher.verify(hashed, password[: _MOST_PASSWORD + 1])
        except (VerificationError, InvalidHashError):
            return False


def _row(name: str, role: Role, reach: ResourceScope, now: int) -> dict[str, object]:
    """Returns a new account. Raises ``ValueError`` for an invalid name."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"'{name}' is not an account name: use up to 64 of a-z, 0-9, '.', '_', '@' and '-'")
    return {
        "name": name, "role": role.value, "resources": reach.text, "created_at": now, "is_disabled": False,
        "failures": 0, "locked_until": 0,
    }  # fmt: skip


def _open_session(connection: Connection, name: str, now: int) -> str:
    """Creates a session and returns its key; expired sessions are deleted."""
    key = secrets.token_urlsafe(32)
    connection.execute(delete(sessions).where(sessions.c.created_at < now - _LONGEST_SESSION))
    connection.execute(insert(sessions).values(key=_digest(key), account=name, created_at=now, seen_at=now))
    return key


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
