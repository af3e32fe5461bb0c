"""Groups of findings are in normal form, with the values as written besides."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    # The first versions stored no revision, and a missing table was created in its latest form.
    if "spelling" not in {column["name"] for column in sa.inspect(op.get_bind()).get_columns("findings")}:
        op.add_column("findings", sa.Column("spelling", sa.String, nullable=False, server_default="{}"))
