"""The database's tables: made, brought up to date, and refused where they are of a later version."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from custodes.database import open_database
from custodes.database.opening import NewerDatabaseError
from databases import assert_made_new_is_what_migrations_make, assert_what_an_older_version_kept_stays


def test_migrations_make_the_tables_that_the_program_knows(tmp_path: Path) -> None:
    assert_made_new_is_what_migrations_make(f"sqlite:///{tmp_path / 'new.db'}")


def test_what_an_older_version_kept_stays(tmp_path: Path) -> None:
    assert_what_an_older_version_kept_stays(f"sqlite:///{tmp_path / 'old.db'}")


def test_a_later_version_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'later.db'}"
    open_database(url).dispose()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(NewerDatabaseError, match="revision 9999, later than"):
        open_database(url)
