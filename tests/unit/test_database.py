"""The database's tables: created, migrated, and refused if they are of a later version."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy import Engine, create_engine, event, text

from custodes.database import open_database
from custodes.database.connection import NewerDatabaseError, migrate
from custodes.database.tables import metadata
from databases import (
    FINDING,
    assert_made_new_is_what_migrations_make,
    assert_what_an_older_version_kept_stays,
    opened_revision,
)


def test_migrations_create_the_expected_tables(tmp_path: Path) -> None:
    assert_made_new_is_what_migrations_make(f"sqlite:///{tmp_path / 'new.db'}")


def test_data_of_an_older_version_is_kept(tmp_path: Path) -> None:
    assert_what_an_older_version_kept_stays(f"sqlite:///{tmp_path / 'old.db'}")


def test_a_later_version_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'later.db'}"
    open_database(url).dispose()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(NewerDatabaseError, match="revision 9999, which is later than"):
        open_database(url)


def test_a_kill_while_tables_are_created_is_recovered(tmp_path: Path) -> None:
    here = _directory(tmp_path)
    with _left_by_a_kill(here, tmp_path / "left") as left:
        open_database(_url(here)).dispose()
    assert len(left) > 20
    for directory in left:
        assert opened_revision(_url(directory)) == opened_revision("sqlite://"), directory.name
        assert_made_new_is_what_migrations_make(_url(directory))


def test_a_kill_during_a_migration_is_recovered_without_loss(tmp_path: Path) -> None:
    here = _directory(tmp_path)
    engine = create_engine(_url(here))
    with engine.begin() as connection:
        migrate(connection, "0001")
        connection.execute(text("DROP TABLE alembic_version"))
        connection.execute(text(FINDING))
    engine.dispose()
    with _left_by_a_kill(here, tmp_path / "left") as left:
        open_database(_url(here)).dispose()
    assert len(left) > 40
    for directory in left:
        engine = open_database(_url(directory))
        with engine.connect() as connection:
            assert connection.execute(text("SELECT id FROM findings")).scalars().all() == ["f"], directory.name
        engine.dispose()
        assert_made_new_is_what_migrations_make(_url(directory))


@pytest.mark.parametrize("kept", [{"findings"}, set(metadata.tables) - {"answers"}, set(metadata.tables)], ids=len)
def test_an_incomplete_database_of_an_older_version_is_recreated(tmp_path: Path, kept: set[str]) -> None:
    url = _url(tmp_path)
    engine = open_database(url)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM alembic_version"))
        metadata.drop_all(connection, [table for name, table in metadata.tables.items() if name not in kept])
    engine.dispose()
    assert opened_revision(url) == opened_revision("sqlite://")
    assert_made_new_is_what_migrations_make(url)


def test_concurrent_first_opens_create_one_database(tmp_path: Path) -> None:
    together = 4
    for round_ in range(5):
        url = f"sqlite:///{tmp_path / f'{round_}.db'}"
        barrier = Barrier(together)

        def revision(_: int, url: str = url, barrier: Barrier = barrier) -> str:
            barrier.wait()
            return opened_revision(url)

        with ThreadPoolExecutor(together) as pool:
            assert set(pool.map(revision, range(together))) == {opened_revision("sqlite://")}


def _directory(tmp_path: Path) -> Path:
    here = tmp_path / "here"
    here.mkdir()
    return here


def _url(directory: Path) -> str:
    return f"sqlite:///{directory / 'custodes.db'}"


@contextmanager
def _left_by_a_kill(here: Path, left: Path) -> Iterator[list[Path]]:
    """Copies a database's files before each statement, as a kill at that moment would leave them."""
    directories: list[Path] = []

    def copy(*_: object) -> None:
        directories.append(left / str(len(directories)))
        shutil.copytree(here, directories[-1], ignore=shutil.ignore_patterns("*-shm"))

    event.listen(Engine, "before_cursor_execute", copy)
    try:
        yield directories
    finally:
        event.remove(Engine, "before_cursor_execute", copy)
