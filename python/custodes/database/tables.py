"""All tables. Times are microseconds since the epoch, where a column does not say otherwise.

Who changes this writes a migration in ``migrations/versions``; a test holds both against each other.
"""

from __future__ import annotations

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

from custodes.database.columns import GroupText, HiddenName, WrappedString, WrappedText

metadata = MetaData()

_NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""Of rows that are numbered: SQLite numbers only its INTEGER keys by itself."""


class NumberColumn(TypeDecorator[float]):
    """A count, or what was measured: read back as an ``int`` where it is whole."""

    impl = Float(53)
    cache_ok = True

    def process_result_value(self, value: float | None, dialect: Dialect) -> float | None:
        return int(value) if value is not None and value == int(value) else value


findings = Table(
    "findings",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("rule_id", String, nullable=False),
    Column("rule", String, nullable=False),
    Column("level", String, nullable=False),
    Column("group", GroupText, nullable=False),
    Column("opened_at", BigInteger, nullable=False),
    Column("closed_at", BigInteger),
    Column("held_from", BigInteger, nullable=False),
    Column("held_until", BigInteger, nullable=False),
    Column("peak", NumberColumn, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("threshold", NumberColumn, nullable=False),
    Column("keep_open", BigInteger, nullable=False),
    Column("usual", Float),
    Index("findings_by_group", "rule_id", "group", "held_until"),
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
    # A finding nobody has touched has no row: it is open, and nobody's.
    Column("finding_id", String(36), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("verdict", String(16)),
    Column("assignee", String),
    Column("version", Integer, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("silence", BigInteger),  # the number of the one that closed it
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
    Column("password", String, nullable=False),  # hashed by argon2; empty of who signs in elsewhere
    Column("is_disabled", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("locked_until", BigInteger, nullable=False),
    Column("identity", String),  # of who signs in elsewhere: where, and what they are called there
    Column("resources", String),  # patterns with spaces between them; none: everything
)

sessions = Table(
    "sessions",
    metadata,
    Column("key", String(64), primary_key=True),  # the SHA-256 of what the browser has
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
    sqlite_autoincrement=True,  # a number that was read and forgotten must not come again
)

receivers = Table(
    "receivers",
    metadata,
    Column("name", String, primary_key=True),
    Column("number", BigInteger, nullable=False),  # the last piece of news it was told, or was spared
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
    Column("since", BigInteger),  # when it was first told; none where it was not yet
    Column("ended_at", BigInteger),  # when the reason for it ended
)

tokens = Table(
    "tokens",
    metadata,
    Column("key", String(64), primary_key=True),  # the SHA-256 of what the program has
    Column("account", String, ForeignKey("accounts.name", ondelete="CASCADE"), nullable=False),
    Column("label", String(64), nullable=False, unique=True),
    Column("permissions", String, nullable=False),  # words with spaces between them
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
    Column("key", String(64), primary_key=True),  # the SHA-256 of whose it is, and the key
    Column("request", String(64), nullable=False),  # the SHA-256 of what was asked
    Column("at", BigInteger, nullable=False),
    Column("status", Integer),  # none as long as it is being done
    Column("body", WrappedText),
)
