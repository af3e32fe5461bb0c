"""Silences: what is expected, for a while."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "silences",
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("rule_id", sa.String),
        sa.Column("group", sa.String, nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.add_column("triage", sa.Column("silence", sa.BigInteger))
