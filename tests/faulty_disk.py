"""A simulated disk with power losses, to test snapshots."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass, field
from typing import BinaryIO


class PowerCut(BaseException):
    """A power loss. Tested code must not catch it."""


@dataclass
class Inode:
    """A file's bytes: those on the disk, and writes that may still be lost, completely or in part."""

    durable: bytes = b""
    pending: list[bytes] = field(default_factory=list)

    def content(self) -> bytes:
        return self.durable + b"".join(self.pending)


class Disk:
    """A folder (:class:`custodes.state.Folder`) with the guarantees of POSIX and none beyond.

    Written bytes are on the disk once the file is synced, names once the folder is. Before that, a power loss may keep
    any prefix of the writes, torn within a write and with holes before the tear, and any subset of name changes.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._names: dict[str, Inode] = {}
        self._durable_names: dict[str, Inode] = {}
        self.cut_after: int | None = None
        """Number of calls until the power loss."""
        self.full = False
        self.calls = 0

    def call(self) -> None:
        self.calls += 1
        if self.cut_after is not None:
            self.cut_after -= 1
            if self.cut_after < 0:
                raise PowerCut

    def names(self) -> list[str]:
        return sorted(self._names)

    def open(self, name: str) -> BinaryIO:
        return io.BytesIO(self._names[name].content())

    def create(self, name: str) -> _FaultyFile:
        self.call()
        inode = self._names[name] = Inode()
        return _FaultyFile(self, inode)

    def rename(self, name: str, to: str) -> None:
        self.call()
        self._names[to] = self._names.pop(name)

    def remove(self, name: str) -> None:
        self.call()
        self._names.pop(name, None)

    def sync(self) -> None:
        self.call()
        self._durable_names = dict(self._names)

    def after_the_cut(self) -> Disk:
        """Returns the disk's content after the power loss."""
        disk = Disk(self._rng)
        for name in sorted({*self._names, *self._durable_names}):
            # Each name change since the last sync is either kept or lost.
            names = self._names if self._rng.random() < 0.5 else self._durable_names
            inode = names.get(name)
            if inode is not None:
                disk._names[name] = Inode(self._survives(inode))
        disk._durable_names = dict(disk._names)
        return disk

    def _survives(self, inode: Inode) -> bytes:
        pending = b"".join(inode.pending)
        kept = self._rng.choice([0, len(pending), self._rng.randint(0, len(pending))])
        tail = bytearray(pending[:kept])
        if tail and self._rng.random() < 0.3:
            # Pages may reach the disk out of order: an earlier one can be missing although a later one is present.
            at = self._rng.randrange(len(tail))
            tail[at : at + 64] = bytes(len(tail[at : at + 64]))
        return inode.durable + bytes(tail)


class _FaultyFile:
    def __init__(self, disk: Disk, inode: Inode) -> None:
        self._disk, self._inode = disk, inode

    def write(self, data: bytes) -> None:
        self._disk.call()
        if self._disk.full:
            raise OSError(28, "No space left on device")
        self._inode.pending.append(bytes(data))

    def sync(self) -> None:
        self._disk.call()
        self._inode.durable, self._inode.pending = self._inode.content(), []

    def close(self) -> None:
        """Closing does not sync."""
