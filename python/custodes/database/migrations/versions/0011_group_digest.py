"""Findings are indexed by the digest of their group: an entry of an index has a limit, names have none."""

import hashlib

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_AT_ONCE = 1000
_findings = sa.table("findings", sa.column("id"), sa.column("group"), sa.column("group_digest"))
_SET = (
    sa.update(_findings)
    .where(_findings.c.id == sa.bindparam("of_id"))
    .values(group_digest=sa.bindparam("digest", type_=sa.String))
)


def upgrade() -> None:
    op.drop_index("findings_by_group", table_name="findings")
    connection = op.get_bind()
    # The first versions stored no revision, and a missing table was created in its latest form.
    if "group_digest" not in {column["name"] for column in sa.inspect(connection).get_columns("findings")}:
        op.add_column("findings", sa.Column("group_digest", sa.String(64), nullable=False, server_default=""))
    after = ""
    while rows := connection.execute(
        sa.select(_findings.c.id, _findings.c.group)
        .where(_findings.c.id > after)
        .order_by(_findings.c.id)
        .limit(_AT_ONCE)
    ).all():
        connection.execute(
            _SET, [{"of_id": id_, "digest": hashlib.sha256(group.encode()).hexdigest()} for id_, group in rows]
        )
        after = rows[-1][0]
    op.create_index("findings_by_group", "findings", ["rule_id", "group_digest", "held_until"])
