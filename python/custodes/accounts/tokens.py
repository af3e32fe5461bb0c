"""API tokens: each belongs to an account, has at most its permissions, and expires.

Of a token only a hash is stored; the token is shown once, when it is created.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Engine, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from custodes.accounts.resource_scope import ResourceScope
from custodes.accounts.roles import Permission, Role
from custodes.accounts.store import Account
from custodes.database.tables import accounts, tokens
from custodes.findings import rfc3339

PREFIX: Final = "custodes_"
"""Prefix of tokens, by which secret scanners recognise them."""
_LABEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SEEN_EVERY = 60_000_000


@dataclass(frozen=True)
class ApiToken:
    """Metadata of a token. Times are microseconds since the epoch."""

    label: str
    account: str
    permissions: frozenset[Permission]
    created_at: int
    expires_at: int
    seen_at: int | None

    def as_dict(self) -> dict[str, Any]:
        """Returns the public fields."""
        times = {name: rfc3339(getattr(self, name)) for name in ("created_at", "expires_at", "seen_at")}
        return vars(self) | {"permissions": sorted(self.permissions)} | times


class TokenStore:
    """Safe to use from any thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, account: str, label: str, permissions: Iterable[Permission], now: int, expires_at: int) -> str:
        """Creates and returns a token. Raises ``ValueError`` for an invalid or existing label and for permissions that
        the account lacks, and ``KeyError`` for an unknown account."""
        if not _LABEL.fullmatch(label):
            raise ValueError(f"'{label}' is not a token label: use up to 64 of a-z, 0-9, '.', '_' and '-'")
        with self._engine.connect() as connection:
            role = connection.execute(select(accounts.c.role).where(accounts.c.name == account)).scalar_one_or_none()
        if role is None:
            raise KeyError(account)
        wanted = frozenset(permissions) or Role(role).permissions
        if beyond := sorted(wanted - Role(role).permissions):
            raise ValueError(f"the role {role} of {account} does not include {', '.join(beyond)}")
        token = PREFIX + secrets.token_urlsafe(32)
        row = {
            "key": _digest(token), "account": account, "label": label, "permissions": " ".join(sorted(wanted)),
            "created_at": now, "expires_at": expires_at,
        }  # fmt: skip
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(tokens).values(row))
        except IntegrityError as error:
            raise ValueError(f"a token '{label}' exists already") from error
        return token

    def of(self, token: str, now: int) -> tuple[Account, frozenset[Permission]] | None:
        """Returns the account and permissions of a token; ``None`` for an expired or unknown token.

        A permission that the account has lost is lost to its tokens too.
        """
        its = tokens.c.key == _digest(token)
        query = (
            select(tokens.c.permissions, tokens.c.seen_at, accounts.c.name, accounts.c.role, accounts.c.resources)
            .join(accounts, accounts.c.name == tokens.c.account)
            .where(its, tokens.c.expires_at > now, accounts.c.is_disabled.is_(False))
        )
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        if row.seen_at is None or row.seen_at < now - _SEEN_EVERY:
            with self._engine.begin() as connection:
                connection.execute(update(tokens).where(its).values(seen_at=now))
        account = Account(row.name, Role(row.role), reach=ResourceScope.read(row.resources))
        return account, _permissions(row.permissions) & account.role.permissions

    def list(self) -> list[ApiToken]:
        columns = [column for column in tokens.c if column.name != "key"]
        with self._engine.connect() as connection:
            rows = connection.execute(select(*columns).order_by(tokens.c.label)).mappings().all()
        return [ApiToken(**{**row, "permissions": _permissions(row["permissions"])}) for row in rows]

    def revoke(self, label: str) -> None:
        """Raises ``KeyError`` for an unknown label."""
        with self._engine.begin() as connection:
            if not connection.execute(delete(tokens).where(tokens.c.label == label)).rowcount:
                raise KeyError(label)


def _permissions(words: str) -> frozenset[Permission]:
    return frozenset(Permission(word) for word in words.split())


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
