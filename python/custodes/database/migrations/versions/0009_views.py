"""Saved views of findings."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "views",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("level", sa.String(16), nullable=False),
        sa.Column("rule_id", sa.String, nullable=False),
        sa.Column("is_shared", sa.Boolean, nullable=False),
        sa.UniqueConstraint("by", "name", name="views_by_name"),
    )
