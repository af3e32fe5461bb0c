"""Tokens, by which programs come in."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "tokens",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("account", sa.String, sa.ForeignKey("accounts.name", ondelete="CASCADE"), nullable=False),
        sa.Column("label", sa.String(64), nullable=False, unique=True),
        sa.Column("permissions", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("seen_at", sa.BigInteger),
    )
