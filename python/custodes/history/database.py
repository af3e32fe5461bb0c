"""DuckDB over the history's files: in memory, small, and without a way out to the network."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
from fsspec.spec import AbstractFileSystem

from custodes._core import StoredFile
from custodes.encryption.keys import Keys

STORED = "stored"
"""The scheme of names under which DuckDB reads files through us."""


def connect(folder: Path, keys: Keys) -> duckdb.DuckDBPyConnection:
    """A database without tables that reads the files in ``folder``. A cursor of it is for one thread."""
    connection = duckdb.connect(
        ":memory:",
        config={
            # Counting has the cores; questions wait a little longer instead.
            "threads": 1,
            "memory_limit": "256MB",
            # What is encrypted on the disk is not spilled to it in the plain.
            "temp_directory": "" if keys.current else str(folder / "spilled"),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    allowed = str(folder).replace("'", "''") + "/"
    if keys.current is not None:
        connection.register_filesystem(_StoredFiles(folder, keys))
        allowed = f"{STORED}://"
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET parquet_metadata_cache = true")
    connection.execute(f"SET allowed_directories = ['{allowed}']")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


class _StoredFiles(AbstractFileSystem):  # type: ignore[misc] # untyped
    """The folder, with its files decrypted as they are read."""

    protocol = STORED
    cachable = False

    def __init__(self, folder: Path, keys: Keys) -> None:
        super().__init__()
        self._folder = folder
        self._keys = keys

    def _at(self, path: str) -> Path:
        return self._folder / path.removeprefix(f"{STORED}://")

    def open(self, path: str, *args: Any, **kwargs: Any) -> _OpenFile:
        return _OpenFile(self._keys.files.open(self._at(path)))

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        return {"name": path, "size": len(self._keys.files.open(self._at(path))), "type": "file"}

    def size(self, path: str) -> int:
        return int(self.info(path)["size"])

    def modified(self, path: str) -> datetime:
        return datetime.fromtimestamp(self._at(path).stat().st_mtime, UTC)

    def exists(self, path: str, **kwargs: Any) -> bool:
        return self._at(path).exists()

    def glob(self, path: str, **kwargs: Any) -> list[str]:
        # DuckDB asks of every name whether it is a pattern; ours are none.
        return [path] if self.exists(path) else []


class _OpenFile:
    """A file as DuckDB reads it."""

    def __init__(self, file: StoredFile) -> None:
        self._file = file
        self._at = 0

    def read(self, count: int = -1) -> bytes:
        wanted = len(self._file) - self._at if count < 0 else count
        data = self._file.read_at(self._at, max(wanted, 0))
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, len(self._file))[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        """Nothing to close: the file goes with this."""
