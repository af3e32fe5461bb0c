"""DuckDB over the history's files: in memory, small, and without a way out to the network."""

from __future__ import annotations

from pathlib import Path

import duckdb


def connect(folder: Path) -> duckdb.DuckDBPyConnection:
    """A database without tables that reads the files in ``folder``. A cursor of it is for one thread."""
    connection = duckdb.connect(
        ":memory:",
        config={
            # Counting has the cores; questions wait a little longer instead.
            "threads": 1,
            "memory_limit": "256MB",
            "temp_directory": str(folder / "spilled"),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET parquet_metadata_cache = true")
    connection.execute(f"SET allowed_directories = ['{str(folder).replace(chr(39), chr(39) * 2)}/']")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection
