"""Snapshot files: written completely or not at all, verified when read, several generations kept.

docs/design/snapshots.md describes the format.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from custodes._core import READABLE_SNAPSHOT_VERSIONS, SNAPSHOT_VERSION
from custodes.encryption.keys import NO_KEYS, Keys
from custodes.sources import StreamPosition
from custodes.state.folder import Folder, OutputFile

VERSION = 1
_MAGIC = b"CUSTODES"
_TRAILER = struct.Struct("<I32s8s")
"""Length of the index, its SHA-256, and the magic again: an unfinished file cannot end with it."""
SUFFIX = ".snapshot"
_UNFINISHED = ".unfinished"


class CorruptSnapshotError(Exception):
    """The file is not a complete snapshot of a known version."""


class IncompatibleSnapshotError(CorruptSnapshotError):
    """The snapshot is complete but cannot be used; starting without it would lose its state."""


class VersionError(IncompatibleSnapshotError):
    """The snapshot was written by another version of Custodes."""


class MissingKeyError(IncompatibleSnapshotError):
    """The snapshot is encrypted under a key that is missing."""


@dataclass(frozen=True)
class Snapshot:
    """The engine's state and the positions of the source."""

    number: int
    taken_at: float
    """Time at which the snapshot began, in epoch seconds."""
    places: list[StreamPosition]
    frame: bytes
    parts: list[bytes]


@dataclass(frozen=True)
class _SnapshotSection:
    """A range of bytes in the file."""

    offset: int
    length: int
    sha256: str


class SnapshotWriter:
    """A snapshot being written. It becomes visible with :meth:`finish`."""

    def __init__(self, folder: Folder, number: int, keys: Keys) -> None:
        self._folder = folder
        self._keys = keys
        self._name = f"{number:012}"
        self._file: OutputFile = folder.create(self._name + _UNFINISHED)
        self._is_open = True
        self._sections: list[_SnapshotSection] = []
        self._at = len(_MAGIC)
        self._file.write(_MAGIC)

    def add(self, section: Sequence[bytes]) -> None:
        """Appends a section, given in pieces. Raises ``OSError`` if the disk is full."""
        digest = hashlib.sha256()
        pieces = section if self._keys.current is None else [self._keys.files.encrypt(b"".join(section))]
        for piece in pieces:
            self._file.write(piece)
            digest.update(piece)
        length = sum(map(len, pieces))
        self._sections.append(_SnapshotSection(self._at, length, digest.hexdigest()))
        self._at += length

    def finish(self, taken_at: float, places: Iterable[StreamPosition]) -> None:
        """Returns once the snapshot would survive a power cut."""
        index = {
            "version": VERSION,
            "engine": SNAPSHOT_VERSION,
            "taken_at": taken_at,
            "places": [asdict(place) for place in places],
            "sections": [asdict(section) for section in self._sections],
        }
        text = orjson.dumps(index)
        self._file.write(text + _TRAILER.pack(len(text), hashlib.sha256(text).digest(), _MAGIC))
        self._file.sync()
        self._close()
        self._folder.rename(self._name + _UNFINISHED, self._name + SUFFIX)
        self._folder.sync()

    def abandon(self) -> None:
        """Removes the unfinished file."""
        self._close()
        self._folder.remove(self._name + _UNFINISHED)

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._file.close()


class Snapshots:
    """The snapshots in a folder."""

    def __init__(self, folder: Folder, keep: int, keys: Keys = NO_KEYS) -> None:
        """Removes unfinished files. ``keep`` is the number of snapshots to keep; the oldest are removed. ``keys``
        encrypt them."""
        self._folder = folder
        self._keys = keys
        self._keep = keep
        for name in folder.names():
            if name.endswith(_UNFINISHED):
                folder.remove(name)
        # A process killed between renaming a snapshot and syncing the name leaves a snapshot that a power cut would
        # still remove, after this process has committed offsets that rely on it.
        folder.sync()
        self._next = max(self.numbers(), default=0) + 1

    def numbers(self) -> list[int]:
        """Returns the numbers of existing snapshots, newest first."""
        stems = (name.removesuffix(SUFFIX) for name in self._folder.names() if name.endswith(SUFFIX))
        return sorted((int(stem) for stem in stems if stem.isdigit()), reverse=True)

    def read(self, number: int) -> Snapshot:
        """Raises :class:`CorruptSnapshotError` and ``OSError``."""
        with self._folder.open(f"{number:012}{SUFFIX}") as file:
            return _read(file, number, self._keys)

    def begin(self) -> SnapshotWriter:
        number, self._next = self._next, self._next + 1
        return SnapshotWriter(self._folder, number, self._keys)

    def prune(self) -> None:
        """Removes all but the newest snapshots."""
        for number in self.numbers()[self._keep :]:
            self._folder.remove(f"{number:012}{SUFFIX}")


@dataclass(frozen=True)
class Inspection:
    """Properties of a snapshot file."""

    file: Path
    size: int
    damage: str | None
    """Reason why it cannot be restored."""
    taken_at: float | None = None
    places: Sequence[StreamPosition] = ()


def inspect(path: Path) -> Inspection:
    """Reads and verifies a file as a restart would. Raises ``OSError``."""
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            index, _ = _read_whole(file)
        except CorruptSnapshotError as error:
            return Inspection(path, size, str(error))
    return Inspection(path, size, None, index["taken_at"], [StreamPosition.read(place) for place in index["places"]])


def _read(file: BinaryIO, number: int, keys: Keys) -> Snapshot:
    index, sections = _read_whole(file)
    try:
        frame, *parts = [keys.files.decrypt(section) for section in sections]
    except PermissionError as error:
        raise MissingKeyError(str(error)) from error
    except OSError as error:
        raise CorruptSnapshotError(str(error)) from error
    return Snapshot(number, index["taken_at"], [StreamPosition.read(place) for place in index["places"]], frame, parts)


def _read_whole(file: BinaryIO) -> tuple[Any, list[bytes]]:
    """Returns the index, and the sections as they were written."""
    index = _read_index(file)
    return index, [_read_section(file, _SnapshotSection(**section)) for section in index["sections"]]


def _read_index(file: BinaryIO) -> Any:
    size = file.seek(0, 2)
    if size < len(_MAGIC) + _TRAILER.size:
        raise CorruptSnapshotError("the file is too short")
    file.seek(size - _TRAILER.size)
    length, digest, magic = _TRAILER.unpack(file.read(_TRAILER.size))
    if magic != _MAGIC or length > size - _TRAILER.size:
        raise CorruptSnapshotError("the file was not written to its end")
    file.seek(size - _TRAILER.size - length)
    text = file.read(length)
    if hashlib.sha256(text).digest() != digest:
        raise CorruptSnapshotError("the index is damaged")
    index = orjson.loads(text)
    version, engine = index["version"], index.get("engine")
    if version != VERSION or engine not in READABLE_SNAPSHOT_VERSIONS:
        known = " or ".join(map(str, READABLE_SNAPSHOT_VERSIONS))
        raise VersionError(
            f"it has format {version} with engine state {engine}, and this version of Custodes reads format {VERSION} "
            f"with engine state {known}"
        )
    return index


def _read_section(file: BinaryIO, section: _SnapshotSection) -> bytes:
    file.seek(section.offset)
    data = file.read(section.length)
    if len(data) != section.length or hashlib.sha256(data).hexdigest() != section.sha256:
        raise CorruptSnapshotError(f"the {section.length} bytes at offset {section.offset} are damaged")
    return data
