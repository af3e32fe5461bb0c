"""DuckDB over the files of the history: in memory, small, without network access."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
from fsspec.spec import AbstractFileSystem

from custodes._core import StoredFile
from custodes.encryption.keys import Keys

STORED = "stored"
"""URL scheme under which DuckDB reads files through this module."""


def connect(folder: Path, keys: Keys) -> duckdb.DuckDBPyConnection:
    """Returns a database without tables that reads the files in ``folder``. Each thread needs its own cursor."""
    connection = duckdb.connect(
        ":memory:",
        config={
            # The cores are for counting; queries wait a little longer.
            "threads": 1,
            "memory_limit": "256MB",
            # Data that is encrypted on the disk must not be spilled in plain text.
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
    """The folder, with files decrypted while they are read."""

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
        # DuckDB asks for every name whether it is a pattern; these names never are.
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
        """Does nothing: the file is closed with this object."""
