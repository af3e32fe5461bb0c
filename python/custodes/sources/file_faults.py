"""Faults of files: a file, or the rest of one, that could not be read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from custodes._core import Engine


class FileFaultReason(StrEnum):
    """Why a file, or the rest of it, was not counted. Each reason is a label value, like those of the engine."""

    truncated = "truncated"
    damaged = "damaged"
    unreadable = "unreadable"
    other_format = "other_format"


MEANINGS = {
    FileFaultReason.truncated: "A file ends in the middle of its compressed data, or became shorter while it was read."
    " Complete lines before the end are counted.",
    FileFaultReason.damaged: "Compressed data that cannot be decompressed, or that other bytes follow. Complete lines"
    " before the damage are counted.",
    FileFaultReason.unreadable: "A file that cannot be opened or read, or that was replaced while it was read.",
    FileFaultReason.other_format: "A file that is not JSON Lines; nothing of it is counted.",
}
"""Meaning of each reason, for the reference."""


class FileReadError(Exception):
    """The rest of a file cannot be read."""

    def __init__(self, reason: FileFaultReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class FileFault:
    """Message of a source: the rest of a file is not counted. It has the attributes of the engine's ``Reject``."""

    stream: int
    position: int
    """Line at which counting ended, from 1."""
    reason: str
    detail: str
    value: bytes
    """Incomplete line before the fault; empty if there is none."""

    def feed(self, engine: Engine, now: int | None) -> None:
        """Counts nothing."""
