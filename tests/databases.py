"""Tests that run on each kind of database."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text

from custodes.database import open_database
from custodes.database.connection import migrate
from custodes.database.tables import metadata

FINDING = """
    INSERT INTO findings
      (id, rule_id, rule, level, "group", opened_at, held_from, held_until, peak, count, threshold, keep_open)
    VALUES ('f', 'r', 'Rule', 'high', '{}', 1, 1, 1, 2.5, 1, 1, 1)"""


def assert_made_new_is_what_migrations_make(url: str) -> None:
    """Creating and migrating a database lead to the tables that the program expects."""
    engine = create_engine(url)
    with engine.begin() as connection:
        migrate(connection, "head")
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == opened_revision("sqlite://")
    engine.dispose()


def opened_revision(url: str) -> str:
    engine = open_database(url)
    with engine.connect() as connection:
        revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    engine.dispose()
    return str(revision)


def assert_what_an_older_version_kept_stays(url: str) -> None:
    """A database from before migrations existed is migrated with its content."""
    engine = create_engine(url)
    with engine.begin() as connection:
        migrate(connection, "0001")
        connection.execute(text("DROP TABLE alembic_version"))
        connection.execute(text("ALTER TABLE findings DROP COLUMN usual"))
        connection.execute(text("DROP TABLE shortfalls"))
        connection.execute(text(FINDING))
    engine.dispose()
    revisions = {opened_revision(url) for _ in range(2)}
    assert revisions == {opened_revision("sqlite://")}
    engine = create_engine(url)
    with engine.connect() as connection:
        assert set(inspect(connection).get_table_names()) == {*metadata.tables, "alembic_version"}
        assert connection.execute(text("SELECT id, peak, usual FROM findings")).one() == ("f", 2.5, None)
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()
