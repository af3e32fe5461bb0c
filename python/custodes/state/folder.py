"""A folder whose files survive a power cut completely or not at all."""

from __future__ import annotations

import fcntl
import os
import uuid
from pathlib import Path
from typing import BinaryIO, Protocol


class OutputFile(Protocol):
    """A file being written."""

    def write(self, data: bytes) -> None:
        """Appends; raises ``OSError`` if the disk is full."""

    def sync(self) -> None:
        """Returns once all written data is on the disk."""

    def close(self) -> None: ...


class Folder(Protocol):
    """Storage operations that snapshots need. Unsynced data may be lost or torn by a power cut."""

    def names(self) -> list[str]: ...

    def open(self, name: str) -> BinaryIO: ...

    def create(self, name: str) -> OutputFile: ...

    def rename(self, name: str, to: str) -> None: ...

    def remove(self, name: str) -> None: ...

    def sync(self) -> None:
        """Returns once created, renamed and removed names are on the disk."""


class FolderInUseError(Exception):
    """Another process uses the folder."""


class _LocalFile:
    def __init__(self, path: Path) -> None:
        # Only the owner may read it: it contains names, and the key of their fingerprints.
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class LocalFolder:
    """A directory that this process locks until it ends."""

    def __init__(self, path: Path) -> None:
        """Creates the directory if it is missing. Raises :class:`FolderInUseError` and ``OSError``."""
        self._path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise FolderInUseError(
                f"{path} is in use by another running process; give each process its own folder"
            ) from error

    def owner(self) -> str:
        """Name that stays with the folder: any process that uses the folder is the same worker."""
        path = self._path / "worker"
        if not path.exists():
            fresh = path.with_suffix(".new")
            fresh.write_text(f"{uuid.uuid4()}\n")
            fresh.rename(path)
        return path.read_text().strip()

    def names(self) -> list[str]:
        return sorted(path.name for path in self._path.iterdir())

    def open(self, name: str) -> BinaryIO:
        return (self._path / name).open("rb")

    def create(self, name: str) -> OutputFile:
        return _LocalFile(self._path / name)

    def rename(self, name: str, to: str) -> None:
        (self._path / name).rename(self._path / to)

    def remove(self, name: str) -> None:
        (self._path / name).unlink(missing_ok=True)

    def sync(self) -> None:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        os.close(self._lock)
