"""Verification of an evidence log: whether it is unchanged, and if not, what is wrong and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custodes._core import verify_evidence
from custodes.encryption.keys import NO_KEYS, Keys
from custodes.evidence.entries import EXPIRED_BEGINS, ExpiredEntry, read


@dataclass(frozen=True)
class Discrepancy:
    """A difference from what was written."""

    place: str
    """The file, or the head that proves the difference."""
    what: str
    offset: int | None = None
    entries: tuple[int, int] | None = None
    """First and last entry concerned, if known."""

    def __str__(self) -> str:
        where = self.place if self.offset is None else f"{self.place}, byte {self.offset}"
        if self.entries is None:
            return f"{where}: {self.what}"
        first, last = self.entries
        return f"{where}: {f'entry {first}' if first == last else f'entries {first} to {last}'}: {self.what}"


@dataclass(frozen=True)
class Verification:
    """The result of a verification."""

    entries: int
    blocks: int
    expired: int
    """Number of entries erased at the end of their retention; their hashes remain."""
    faults: Sequence[Discrepancy]

    def as_dict(self) -> dict[str, Any]:
        """Returns the public fields."""
        return vars(self) | {"faults": [vars(fault) for fault in self.faults]}


def verify(
    folder: Path, signers: Sequence[str], heads: Sequence[tuple[str, str]] = (), keys: Keys = NO_KEYS
) -> Verification:
    """Reads a whole log. ``signers`` are the public keys that may have signed it; ``heads`` were kept elsewhere, each
    with its place; ``keys`` may decrypt entries.

    Raises ``OSError``, and ``ValueError`` for an invalid key.
    """
    report = verify_evidence(folder, signers, heads, EXPIRED_BEGINS, keys.files)
    faults = [Discrepancy(one.place, one.what, one.offset, one.entries) for one in report.faults]
    runs = [
        tuple(run) for _, text in report.found if isinstance(entry := read(text), ExpiredEntry) for run in entry.runs
    ]
    for first, last in report.gone:
        faults += [
            Discrepancy(str(folder), "entries are missing, and no entry gives a reason", entries=stretch)
            for stretch in _without(first, last, runs)
        ]
    expired = sum(last - first + 1 for first, last in report.gone)
    return Verification(report.entries, report.blocks, expired, faults)


def _without(first: int, last: int, runs: Sequence[tuple[int, ...]]) -> list[tuple[int, int]]:
    """Returns the parts of a range outside these runs."""
    left = []
    for begin, end in sorted(runs):
        if end < first or begin > last:
            continue
        if begin > first:
            left.append((first, begin - 1))
        first = end + 1
    return left + ([(first, last)] if first <= last else [])
