"""Snapshot files: written whole or not at all, checked when read, kept a few deep.

docs/design/snapshots.md has the format.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from custodes._core import SNAPSHOT_VERSION
from custodes.encryption.keys import NO_KEYS, Keys
from custodes.sources import StreamPosition
from custodes.state.folder import Folder, OutputFile

VERSION = 1
_MAGIC = b"CUSTODES"
_TRAILER = struct.Struct("<I32s8s")
"""Length of the index, its SHA-256, and the magic again: what a file that was not finished cannot end with."""
SUFFIX = ".snapshot"
_UNFINISHED = ".unfinished"


class CorruptSnapshotError(Exception):
    """A file that is no whole snapshot of a version known here."""


class IncompatibleSnapshotError(CorruptSnapshotError):
    """A whole snapshot that is not for us: to go on without it would be to forget what it has."""


class VersionError(IncompatibleSnapshotError):
    """A snapshot of another version of Custodes."""


class MissingKeyError(IncompatibleSnapshotError):
    """A snapshot that is encrypted under a key that is not there."""


@dataclass(frozen=True)
class Snapshot:
    """The engine's state and where the source was."""

    number: int
    taken_at: float
    """Epoch seconds at which it was begun."""
    places: list[StreamPosition]
    frame: bytes
    parts: list[bytes]


@dataclass(frozen=True)
class _SnapshotSection:
    """A run of bytes in the file."""

    offset: int
    length: int
    sha256: str


class SnapshotWriter:
    """A snapshot on its way to the disk. :meth:`finish` makes it one; until then it is nothing."""

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
        """Appends a section, which comes in pieces. Raises ``OSError`` where there is no room."""
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
        """Leaves nothing of it."""
        self._close()
        self._folder.remove(self._name + _UNFINISHED)

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._file.close()


class Snapshots:
    """The snapshots in a folder."""

    def __init__(self, folder: Folder, keep: int, keys: Keys = NO_KEYS) -> None:
        """Removes what was left unfinished. ``keep`` is how many are kept; the oldest go. ``keys`` is what they are
        encrypted by."""
        self._folder = folder
        self._keys = keys
        self._keep = keep
        for name in folder.names():
            if name.endswith(_UNFINISHED):
                folder.remove(name)
        # A process killed between naming a snapshot and syncing its name leaves one that a power cut would still take
        # away, when this process has long committed offsets because of it.
        folder.sync()
        self._next = max(self.numbers(), default=0) + 1

    def numbers(self) -> list[int]:
        """Numbers of the snapshots there are, newest first."""
        stems = (name.removesuffix(SUFFIX) for name in self._folder.names() if name.endswith(SUFFIX))
        return sorted((int(stem) for stem in stems if stem.isdigit()), reverse=True)

    def read(self, number: int) -> Snapshot:
        """Raises :class:`CorruptSnapshotError`, and ``OSError`` as it comes."""
        with self._folder.open(f"{number:012}{SUFFIX}") as file:
            return _read(file, number, self._keys)

    def begin(self) -> SnapshotWriter:
        number, self._next = self._next, self._next + 1
        return SnapshotWriter(self._folder, number, self._keys)

    def prune(self) -> None:
        """Removes all but the newest few."""
        for number in self.numbers()[self._keep :]:
            self._folder.remove(f"{number:012}{SUFFIX}")


@dataclass(frozen=True)
class Inspection:
    """What a file is, seen from outside."""

    file: Path
    size: int
    damage: str | None
    """Why it cannot be gone on from."""
    taken_at: float | None = None
    places: Sequence[StreamPosition] = ()


def inspect(path: Path) -> Inspection:
    """Reads a file whole, as a restart would. Raises ``OSError`` as it comes."""
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            index, _ = _read_whole(file)
        except CorruptSnapshotError as error:
            return Inspection(path, size, str(error))
    return Inspection(path, size, None, index["taken_at"], [StreamPosition(**place) for place in index["places"]])


def _read(file: BinaryIO, number: int, keys: Keys) -> Snapshot:
    index, sections = _read_whole(file)
    try:
        frame, *parts = [keys.files.decrypt(section) for section in sections]
    except PermissionError as error:
        raise MissingKeyError(str(error)) from error
    except OSError as error:
        raise CorruptSnapshotError(str(error)) from error
    return Snapshot(number, index["taken_at"], [StreamPosition(**place) for place in index["places"]], frame, parts)


def _read_whole(file: BinaryIO) -> tuple[Any, list[bytes]]:
    """The index, and the sections as they were written."""
    index = _read_index(file)
    return index, [_read_section(file, _SnapshotSection(**section)) for section in index["sections"]]


def _read_index(file: BinaryIO) -> Any:
    size = file.seek(0, 2)
    if size < len(_MAGIC) + _TRAILER.size:
        raise CorruptSnapshotError("it is too short")
    file.seek(size - _TRAILER.size)
    length, digest, magic = _TRAILER.unpack(file.read(_TRAILER.size))
    if magic != _MAGIC or length > size - _TRAILER.size:
        raise CorruptSnapshotError("it was not written to its end")
    file.seek(size - _TRAILER.size - length)
    text = file.read(length)
    if hashlib.sha256(text).digest() != digest:
        raise CorruptSnapshotError("its index is damaged")
    index = orjson.loads(text)
    found, known = (index["version"], index.get("engine")), (VERSION, SNAPSHOT_VERSION)
    if found != known:
        formats = [f"format {file} with engine state {state}" for file, state in (found, known)]
        raise VersionError(f"it has {formats[0]}; this Custodes reads {formats[1]}")
    return index


def _read_section(file: BinaryIO, section: _SnapshotSection) -> bytes:
    file.seek(section.offset)
    data = file.read(section.length)
    if len(data) != section.length or hashlib.sha256(data).hexdigest() != section.sha256:
        raise CorruptSnapshotError(f"the {section.length} bytes at {section.offset} are damaged")
    return data
