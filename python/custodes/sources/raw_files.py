"""Raw bytes of many files that are read in turns, with a bounded number of open files."""

from __future__ import annotations

import os
import sys
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO, Protocol

from custodes.sources.file_faults import FileFaultReason, FileReadError

MOST_OPEN = 64
"""Maximum number of open files; far below the usual limit of 1,024 descriptors per process."""


class RawBytes(Protocol):
    """Bytes of a file, read in order."""

    def read(self, size: int) -> bytes:
        """Returns the next bytes; empty at the end. Raises :class:`FileReadError`."""


class StandardInput:
    """Bytes of standard input."""

    def read(self, size: int) -> bytes:
        try:
            return sys.stdin.buffer.read(size)
        except OSError as error:
            raise FileReadError(FileFaultReason.unreadable, error.strerror or str(error)) from error


class OpenFiles:
    """Keeps the most recently read files open. Used from one thread at a time."""

    def __init__(self) -> None:
        self._open: OrderedDict[RawFile, BinaryIO] = OrderedDict()

    def descriptor(self, file: RawFile) -> BinaryIO | None:
        """Returns the open file; ``None`` if it was never opened, or was closed."""
        if file in self._open:
            self._open.move_to_end(file)
        return self._open.get(file)

    def add(self, file: RawFile, descriptor: BinaryIO) -> None:
        """Keeps a file open, and closes the least recently read one if there are too many."""
        self._open[file] = descriptor
        if len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)[1].close()

    def drop(self, file: RawFile) -> None:
        """Closes a file if it is open."""
        if (descriptor := self._open.pop(file, None)) is not None:
            descriptor.close()

    def close(self) -> None:
        """Closes all files."""
        while self._open:
            self._open.popitem()[1].close()


class RawFile:
    """Bytes of a regular file. It is opened again at the same position after :class:`OpenFiles` has closed it."""

    def __init__(self, path: Path, files: OpenFiles) -> None:
        self._path = path
        self._files = files
        self._offset = 0
        self._identity: tuple[int, int] | None = None

    def read(self, size: int) -> bytes:
        try:
            descriptor = self._files.descriptor(self) or self._open()
            data = descriptor.read(size)
            if not data and os.fstat(descriptor.fileno()).st_size < self._offset:
                raise FileReadError(FileFaultReason.truncated, "the file became shorter while it was read")
        except OSError as error:
            raise FileReadError(FileFaultReason.unreadable, error.strerror or str(error)) from error
        self._offset += len(data)
        return data

    def _open(self) -> BinaryIO:
        descriptor = self._path.open("rb", buffering=0)
        self._files.add(self, descriptor)
        status = os.fstat(descriptor.fileno())
        identity = status.st_dev, status.st_ino
        if self._identity not in {None, identity}:
            raise FileReadError(FileFaultReason.unreadable, "the file was replaced while it was read")
        self._identity = identity
        descriptor.seek(self._offset)
        return descriptor

    def close(self) -> None:
        """Closes the file."""
        self._files.drop(self)
