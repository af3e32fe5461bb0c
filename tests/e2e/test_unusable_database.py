"""A database that cannot be used is one error line of `check` and of `run`."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import yaml

from commands import custodes
from servers import free_port

SECRET = "s3cret"


def said(folder: Path, command: str, url: str, *arguments: str) -> tuple[int, list[str]]:
    (folder / "events.jsonl").touch()
    config = {
        "source": {"file": {"paths": ["events.jsonl"]}},
        "findings": {"database": url},
        "http": {"listen": f"127.0.0.1:{free_port()}"},
    }
    (folder / "custodes.yaml").write_text(yaml.safe_dump(config))
    done = custodes(command, "-c", "custodes.yaml", *arguments, cwd=folder, env={"COLUMNS": "400"})
    assert SECRET.encode() not in done.stderr + done.stdout
    return done.returncode, done.stderr.decode().splitlines()


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("sqlite:////nowhere/findings.db", "the database sqlite:////nowhere/findings.db cannot be used: "),
        ("sqlite:///noise.db", "file is not a database"),
        ("sqlite:///.", "cannot be used: "),
        (f"postgresql+psycopg://custodes:{SECRET}@127.0.0.1:1/custodes", "Connection refused"),
        (f"postgresql+psycopg://127.0.0.1:1/custodes?user=custodes&password={SECRET}", "Connection refused"),
    ],
)
def test_a_database_that_cannot_be_opened(tmp_path: Path, url: str, cause: str) -> None:
    (tmp_path / "noise.db").write_text("this is not a database, and long enough to have the header of one\n" * 20)
    for command in ("check", "run"):
        code, lines = said(tmp_path, command, url)
        assert code == 1, lines
        (line,) = lines
        assert cause in line
        assert "findings.database" in line


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        (f"mysql://custodes:{SECRET}@db.example/custodes", "is for mysql"),
        (f"custodes:{SECRET}", "is not the URL of a database"),
        (f"postgresql://custodes:{SECRET}@db.example/custodes", "use postgresql+psycopg://"),
        (f"postgresql+psycopg://custodes:{SECRET}@db.example:port/custodes", "is not the URL of a database"),
    ],
)
def test_a_url_that_no_database_has(tmp_path: Path, url: str, cause: str) -> None:
    for command, expected in (("check", 2), ("run", 1)):
        code, lines = said(tmp_path, command, url)
        assert code == expected, lines
        (line,) = lines
        assert cause in line
        assert "findings.database" in line


def test_a_database_of_a_later_version(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "later.db") as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
    connection.close()
    for command in ("check", "run"):
        code, lines = said(tmp_path, command, "sqlite:///later.db")
        assert code == 1, lines
        (line,) = lines
        assert "the database has revision 9999" in line


def test_check_creates_no_database_and_asks_none_offline(tmp_path: Path) -> None:
    assert said(tmp_path, "check", "sqlite:///new.db") == (0, [])
    assert not (tmp_path / "new.db").exists()
    url = f"postgresql+psycopg://custodes:{SECRET}@127.0.0.1:1/custodes"
    assert said(tmp_path, "check", url, "--offline") == (0, [])
