"""Copies the data of a running monitor so that the copy can be restored exactly. Needs Python 3.11 and nothing else.

    python hot_copy.py TARGET --state DIR --database FILE --history DIR --evidence DIR

The copy is made in this order, which docs/backup.md explains. Each part is optional: with PostgreSQL, copy the state,
run pg_dump, then copy the history and the evidence.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

_MOST_PASSES = 100
"""Passes over a folder whose files keep vanishing; each pass copies what the previous one missed."""


def copy_folder(source: Path, target: Path, is_wanted: Callable[[str], bool]) -> None:
    """Copies files that other processes add, replace and remove meanwhile, until a pass misses none.

    A file that vanishes was replaced by a new one (a merged history file) or removed (an old snapshot). Raises
    ``OSError``, and ``TimeoutError`` if every pass misses a file.
    """
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    copied: dict[str, tuple[int, int]] = {}
    for _ in range(_MOST_PASSES):
        is_complete = True
        # All names are read before the first file is copied: of several evidence files, only the last one can grow.
        for name in sorted(path.name for path in source.iterdir() if is_wanted(path.name)):
            try:
                status = (source / name).stat()
                version = (status.st_size, status.st_mtime_ns)
                if copied.get(name) != version:
                    copy_file(source / name, target / name)
                    copied[name] = version
            except FileNotFoundError:
                is_complete = False
        if is_complete:
            return
    raise TimeoutError(f"{source}: files vanished in each of {_MOST_PASSES} passes")


def copy_file(source: Path, target: Path) -> None:
    """Copies a file with its mode and times; the target appears when it is complete and on disk."""
    partial = target.with_name(f"{target.name}.partial")
    shutil.copy2(source, partial)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.rename(target)


def copy_state(source: Path, target: Path) -> None:
    """Copies snapshots, member name and keys. An unfinished snapshot is not needed."""
    copy_folder(source, target, lambda name: name != "lock" and not name.endswith(".unfinished"))


def copy_database(source: Path, target: Path) -> None:
    """Copies a SQLite database as of one moment."""
    original = sqlite3.connect(f"file:{source}?mode=ro", uri=True)
    copy = sqlite3.connect(target)
    try:
        original.backup(copy)
    finally:
        copy.close()
        original.close()


def copy_history(source: Path, target: Path) -> None:
    """Copies complete history files."""
    copy_folder(source, target, lambda name: name.endswith(".parquet"))


def copy_evidence(source: Path, target: Path) -> None:
    """Copies the head first: a head that is newer than the log looks like a truncated log."""
    copy_folder(source, target, lambda name: name == "head")
    copy_folder(source, target, lambda name: name not in {"head", "lock"} and not name.endswith(".new"))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("target", type=Path, help="Folder for the copy; it must not exist or be empty.")
    parser.add_argument("--state", type=Path, help="state.folder")
    parser.add_argument("--database", type=Path, help="The SQLite file of findings.database.")
    parser.add_argument("--history", type=Path, help="history.folder")
    parser.add_argument("--evidence", type=Path, help="evidence.folder")
    options = parser.parse_args()
    os.umask(0o077)
    options.target.mkdir(mode=0o700, parents=True, exist_ok=True)
    steps = [
        (options.state, copy_state),
        (options.database, copy_database),
        (options.history, copy_history),
        (options.evidence, copy_evidence),
    ]
    try:
        for source, copy in steps:
            if source is not None:
                if (options.target / source.name).exists():
                    parser.error(f"{options.target / source.name} exists")
                copy(source, options.target / source.name)
    except (OSError, sqlite3.Error) as error:
        parser.exit(1, f"hot_copy: {error}\n")


if __name__ == "__main__":
    main()
