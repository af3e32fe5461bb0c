"""Faults in the user's files: what is wrong, where, and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One fault, as data: commands print it, and ``--json`` writes it."""

    message: str
    """The fault, in one sentence."""
    file: str | None = None
    line: int | None = None
    """Line number, from 1."""
    hint: str | None = None
    """Advice for the user."""

    def __str__(self) -> str:
        place = "" if self.file is None else f"{self.file}:{self.line}: " if self.line else f"{self.file}: "
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}{self.message}{hint}"

    def as_dict(self) -> dict[str, str | int | None]:
        return {"file": self.file, "line": self.line, "message": self.message, "hint": self.hint}


class FaultsError(Exception):
    """Raised with all faults found, so that they can be fixed together."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(map(str, self.faults)))


_FEW = 20
"""Largest number of known words that a hint lists."""


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """Returns a hint with the nearest known word, if one is near."""
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"did you mean '{near[0]}'?"
    return f"known: {', '.join(sorted(known))}" if 0 < len(known) <= _FEW else None
