"""What the first versions had."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "findings",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("rule_id", sa.String, nullable=False),
        sa.Column("rule", sa.String, nullable=False),
        sa.Column("level", sa.String, nullable=False),
        sa.Column("group", sa.String, nullable=False),
        sa.Column("opened_at", sa.BigInteger, nullable=False),
        sa.Column("closed_at", sa.BigInteger),
        sa.Column("held_from", sa.BigInteger, nullable=False),
        sa.Column("held_until", sa.BigInteger, nullable=False),
        sa.Column("peak", sa.Float(53), nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("threshold", sa.Float(53), nullable=False),
        sa.Column("keep_open", sa.BigInteger, nullable=False),
        sa.Column("usual", sa.Float),
    )
    op.create_index("findings_by_group", "findings", ["rule_id", "group", "held_until"])
    op.create_index("findings_by_time", "findings", ["opened_at", "id"])
    op.create_index("findings_open", "findings", ["closed_at"])
    op.create_table(
        "gaps",
        sa.Column("place", sa.String, primary_key=True),
        sa.Column("expected", sa.BigInteger, primary_key=True),
        sa.Column("position", sa.BigInteger, primary_key=True),
        sa.Column("noticed_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "shortfalls",
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("rule_id", sa.String, primary_key=True),
        sa.Column("since", sa.BigInteger, primary_key=True),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.Column("groups", sa.BigInteger, nullable=False),
        sa.Column("values", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "claims",
        sa.Column("task", sa.String, primary_key=True),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("worker", sa.String, nullable=False),
    )
    op.create_table(
        "workers",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("seen_at", sa.Float, nullable=False),
        sa.Column("status", sa.String, nullable=False),
    )
