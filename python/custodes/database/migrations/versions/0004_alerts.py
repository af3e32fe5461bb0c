"""Alerts: news of findings, and who was told of them."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "news",
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("finding", sa.Text, nullable=False),
        sa.Column("by", sa.String),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "receivers",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("holder", sa.String),
        sa.Column("held_until", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "undelivered",
        sa.Column("receiver", sa.String, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("news", sa.Text, nullable=False),
    )
    op.create_table(
        "firing",
        sa.Column("receiver", sa.String, primary_key=True),
        sa.Column("finding_id", sa.String(36), primary_key=True),
        sa.Column("finding", sa.Text, nullable=False),
        sa.Column("since", sa.BigInteger),
        sa.Column("ended_at", sa.BigInteger),
    )
