"""Runs migrations in the transaction of whoever asks for them."""

from alembic import context

from custodes.database.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
context.run_migrations()
