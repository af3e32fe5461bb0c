"""All tables. Times are microseconds since the epoch unless a column says otherwise.

Every change here needs a migration in ``migrations/versions``; a test compares both.
"""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

from custodes.database.columns import GroupDigest, GroupText, HiddenName, WrappedString, WrappedText

metadata = MetaData()

_NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""Type of numbered primary keys: SQLite numbers only INTEGER keys by itself."""


class NumberColumn(TypeDecorator[float]):
    """A count or a measure, read as an ``int`` if it is whole."""

    impl = Float(53)
    cache_ok = True

    def process_result_value(self, value: float | None, dialect: Dialect) -> float | None:
        return int(value) if value is not None and math.isfinite(value) and value == int(value) else value


def _group_of(context: Any) -> str:
    return str(context.get_current_parameters()["group"])


findings = Table(
    "findings",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("rule_id", String, nullable=False),
    Column("rule", String, nullable=False),
    Column("level", String, nullable=False),
    Column("group", GroupText, nullable=False),
    Column("group_digest", GroupDigest, nullable=False, default=_group_of),
    Column("opened_at", BigInteger, nullable=False),
    Column("closed_at", BigInteger),
    Column("held_from", BigInteger, nullable=False),
    Column("held_until", BigInteger, nullable=False),
    Column("peak", NumberColumn, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("threshold", NumberColumn, nullable=False),
    Column("keep_open", BigInteger, nullable=False),
    Column("usual", Float),
    Column("spelling", GroupText, nullable=False, default="{}", server_default="{}"),
    Index("findings_by_group", "rule_id", "group_digest", "held_until"),
    Index("findings_by_time", "opened_at", "id"),
    Index("findings_open", "closed_at"),
)

gaps = Table(
    "gaps",
    metadata,
    Column("place", String, primary_key=True),
    Column("expected", BigInteger, primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("noticed_at", BigInteger, nullable=False),
)

shortfalls = Table(
    "shortfalls",
    metadata,
    Column("kind", String, primary_key=True),
    Column("rule_id", String, primary_key=True),
    Column("since", BigInteger, primary_key=True),
    Column("until", BigInteger, nullable=False),
    Column("groups", BigInteger, nullable=False),
    Column("values", BigInteger, nullable=False),
)

claims = Table(
    "claims",
    metadata,
    Column("task", String, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("worker", String, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("name", String, primary_key=True),
    Column("seen_at", Float, nullable=False),  # in epoch seconds
    Column("status", String, nullable=False),
)

triage = Table(
    "triage",
    metadata,
    # A finding without a row is open and unassigned.
    Column("finding_id", String(36), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("verdict", String(16)),
    Column("assignee", String),
    Column("version", Integer, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("silence", BigInteger),  # number of the silence that closed it
    Index("triage_by_state", "state"),
)

notes = Table(
    "notes",
    metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("finding_id", String(36), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("by", String, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("text", WrappedText, nullable=False),
    Index("notes_by_finding", "finding_id", "number"),
)

accounts = Table(
    "accounts",
    metadata,
    Column("name", String, primary_key=True),
    Column("role", String(16), nullable=False),
    Column("password", String, nullable=False),  # argon2 hash; empty for users of a provider
    Column("is_disabled", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("locked_until", BigInteger, nullable=False),
    Column("identity", String),  # provider and identifier, for users of a provider
    Column("resources", String),  # patterns separated by spaces; empty for every resource
)

sessions = Table(
    "sessions",
    metadata,
    Column("key", String(64), primary_key=True),  # SHA-256 of the key in the browser
    Column("account", String, ForeignKey("accounts.name", ondelete="CASCADE"), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("account", String, nullable=False),
    Column("action", String(32), nullable=False),
    Column("resource", String(32), nullable=False),
    Column("subject", HiddenName),
    Column("purpose", WrappedString),
    Column("address", String),
    Index("audit_by_account", "account", "number"),
    Index("audit_by_subject", "subject", "number"),
)

holds = Table(
    "holds",
    metadata,
    Column("finding_id", String(36), primary_key=True),
    Column("by", String, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("reason", WrappedText, nullable=False),
)

news = Table(
    "news",
    metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("finding", WrappedText, nullable=False),
    Column("by", String),
    sqlite_autoincrement=True,  # the number of a deleted entry must not be reused
)

receivers = Table(
    "receivers",
    metadata,
    Column("name", String, primary_key=True),
    Column("number", BigInteger, nullable=False),  # last outbox entry that was delivered or skipped
    Column("holder", String),
    Column("held_until", BigInteger, nullable=False),
)

undelivered = Table(
    "undelivered",
    metadata,
    Column("receiver", String, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("why", Text, nullable=False),
    Column("news", WrappedText, nullable=False),
)

firing = Table(
    "firing",
    metadata,
    Column("receiver", String, primary_key=True),
    Column("finding_id", String(36), primary_key=True),
    Column("finding", WrappedText, nullable=False),
    Column("since", BigInteger),  # time of the first delivery; null before it
    Column("ended_at", BigInteger),  # time at which the alert was resolved
)

tokens = Table(
    "tokens",
    metadata,
    Column("key", String(64), primary_key=True),  # SHA-256 of the token
    Column("account", String, ForeignKey("accounts.name", ondelete="CASCADE"), nullable=False),
    Column("label", String(64), nullable=False, unique=True),
    Column("permissions", String, nullable=False),  # words separated by spaces
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger),
)

silences = Table(
    "silences",
    metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("rule_id", String),
    Column("group", GroupText, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("by", String, nullable=False),
    Column("reason", WrappedText, nullable=False),
)

views = Table(
    "views",
    metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("name", String(64), nullable=False),
    Column("by", String, nullable=False),
    Column("state", String(16), nullable=False),
    Column("level", String(16), nullable=False),
    Column("rule_id", String, nullable=False),
    Column("is_shared", Boolean, nullable=False),
    UniqueConstraint("by", "name", name="views_by_name"),
)

answers = Table(
    "answers",
    metadata,
    Column("key", String(64), primary_key=True),  # SHA-256 of account and key
    Column("request", String(64), nullable=False),  # SHA-256 of the request
    Column("at", BigInteger, nullable=False),
    Column("status", Integer),  # null while the request is in progress
    Column("body", WrappedText),
)
